"""A folder of the user's images: `train/<class>/*` are the demonstrations, `val/<class>/*` the queries."""

import os
from abc import abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from emloc.errors import UserError
from emloc.options import Count
from experiments.datasets.base import Sample, named
from experiments.datasets.classification import Classification, check_covered
from experiments.metrics import bare

FORMATS = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
MOST_CLASSES = 200

ClassImages = dict[str, list[Path]]


@dataclass(frozen=True, kw_only=True)
class ClassFolders(Classification):
    """Images in train/<folder>/ and val/<folder>/, one folder per class; files are taken in the order of their names.

    Parameters
    ----------
    root
        The user's folder.
    """

    root: str | Path | None = None

    @property
    @abstractmethod
    def splits(self) -> tuple[ClassImages, ClassImages]:
        """The images of train/ and of val/, by folder."""

    def label(self, folder: str) -> str:
        """The class that a folder holds: by default it is called like the folder."""
        return folder

    def pool(self) -> Sequence[Sample]:
        return self._samples("train", self.splits[0])

    def samples(self) -> Sequence[Sample]:
        return self._samples("val", self.splits[1])

    def _samples(self, split: str, images: ClassImages) -> list[Sample]:
        return [self.listed(split, folder, file) for folder, files in images.items() for file in files]

    def listed(self, split: str, folder: str, file: Path) -> Sample:
        """The sample of an image."""
        return self.sample(f"{split}/{folder}/{file.name}", file, self.label(folder))


@dataclass(frozen=True, kw_only=True)
class ImageFolder(ClassFolders):
    """Classes are folders and are called by the folder's name.

    Hidden entries and files that are not images are passed over. A class may be in train/ only.

    Parameters
    ----------
    root
        The folder that holds train/ and val/.
    """

    name: ClassVar[str] = "image_folder"

    max_new_tokens: Count = 24
    visual_tokens: Count | None = 256

    def __post_init__(self) -> None:
        super().__post_init__()
        train, val = self.splits
        check_covered(val, set(train), self.name)
        _check_class_names(list(train))

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(self.splits[0])

    @cached_property
    def splits(self) -> tuple[ClassImages, ClassImages]:
        root = checked_root(self.root, "train/<class>/ and val/<class>/ with images")
        return class_images(root / "train"), class_images(root / "val")


def checked_root(root: str | Path | None, layout: str) -> Path:
    """The dataset's folder; UserError, which tells the layout, if it is not given or not there."""
    if not root:
        raise UserError(f"dataset.root is not given: write dataset.root=FOLDER, where FOLDER holds {layout}.")
    folder = Path(root).expanduser()
    if not folder.is_dir():
        raise UserError(f"dataset.root must be a folder that holds {layout}, but {folder} is not a folder.")
    return folder


def class_images(split: Path, *, only: Collection[str] | None = None) -> ClassImages:
    """Class name -> image files below `split`, both sorted by name; classes without images are left out.

    `only`: the class folders that are looked into (None: all). UserError if nothing is found.
    """
    folders = [entry for entry in _entries(split) if entry.is_dir() and (only is None or entry.name in only)]
    found = {folder.name: _images(Path(folder)) for folder in folders}
    if not any(found.values()):
        raise UserError(f"Expected images ({', '.join(FORMATS)}) in {split}/<class>/, but there are none; add some.")
    return {name: files for name, files in found.items() if files}


def _images(folder: Path) -> list[Path]:
    return [Path(entry) for entry in _entries(folder) if entry.name.lower().endswith(FORMATS) and entry.is_file()]


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """What is in a folder, sorted by name, without hidden entries."""
    try:
        with os.scandir(folder) as entries:
            return sorted((e for e in entries if not e.name.startswith(".")), key=lambda entry: entry.name)
    except OSError as error:
        raise UserError(f"Expected a folder {folder} that can be read, but: {error.strerror}.") from error


def _check_class_names(classes: list[str]) -> None:
    if len(classes) > MOST_CLASSES:
        raise UserError(f"At most {MOST_CLASSES} classes can be used, but train/ has {len(classes)}; remove some.")
    seen: dict[str, str] = {}
    for name in classes:
        other = seen.setdefault(bare(name), name)
        if other != name:
            raise UserError(f"Classes {named([other, name])} cannot be told apart in an answer; rename one folder.")
