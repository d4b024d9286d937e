"""ImageNet100: the first 100 synsets of the user's ImageNet-1k folder, the paper's first benchmark."""

import csv
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import ClassVar

from emloc.errors import UserError
from emloc.options import Count, Text
from experiments.datasets.base import Sample, named
from experiments.datasets.image_folder import ClassFolders, ClassImages, checked_root, class_images
from experiments.metrics import normalised_substring
from experiments.records.schema import MetricSpec

QUERIES_PER_CLASS = 50  # the official validation set
REFERENCE_LIST = "lmms_eval_ImageNet100_train.json"
_CLASS_FILE = Path(__file__).with_name("imagenet100_classes.csv")
_LOG = logging.getLogger(__name__)


@cache
def class_names() -> dict[str, str]:
    """WordNet id -> class name, in the order of the ids."""
    with _CLASS_FILE.open(encoding="utf-8", newline="") as file:
        return {row["wnid"]: row["name"] for row in csv.DictReader(file)}


@dataclass(frozen=True, kw_only=True)
class ImageNet100(ClassFolders):
    """`train/<wnid>/*` are the candidates for demonstrations, `val/<wnid>/*` the queries (5,000 when complete).

    200 shots are two images of each class; the seed chooses them, and any number of shots is balanced. The paper has a
    fixed list of 200 images, whose first shots are not balanced: `demonstrations=reference` takes them in its order.
    The wording of the question is ours. Folders of other synsets are not looked into, so the whole ImageNet-1k tree
    works too.

    Parameters
    ----------
    root
        The folder that holds train/ and val/, or imagenet1k/ or data/imagenet1k/ with these. For
        `demonstrations=reference` the public implementation's lmms_eval_ImageNet100_train.json has to be there too, in
        the folder itself or in its data/.
    """

    name: ClassVar[str] = "imagenet100"
    metrics: ClassVar[tuple[MetricSpec, ...]] = (MetricSpec("substring accuracy"),)
    stop: ClassVar[str | None] = "\n\n"

    question: Text = "Which category is this image?"
    max_new_tokens: Count = 32
    visual_tokens: Count | None = 64

    def __post_init__(self) -> None:
        super().__post_init__()
        _, val = self.splits
        odd = [wnid for wnid, files in val.items() if len(files) != QUERIES_PER_CLASS]
        if odd:
            _LOG.warning(
                "ImageNet has %d validation images per class; %s have another number (%d images in all).",
                QUERIES_PER_CLASS, named(odd), sum(map(len, val.values())),
            )  # fmt: skip

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(class_names().values())

    def label(self, folder: str) -> str:
        return class_names()[folder]

    def written(self, label: str) -> str:
        return f"{label}."

    def agreement(self, prediction: str, label: str) -> float:
        return normalised_substring(prediction, label)

    def reference_choice(self, pool: Sequence[Sample], shots: int, seed: int) -> Sequence[Sample]:
        """The first images of the public implementation's list, in its order: the same at every seed."""
        listed = _listed(self._root)
        if shots > len(listed):
            raise UserError(f"{REFERENCE_LIST} has {len(listed)} demonstrations, but shots={shots}; ask for fewer.")
        return [self._demonstrating(name) for name in listed[:shots]]

    def _demonstrating(self, image: str) -> Sample:
        """The sample of an image that the list names, whatever folder it says that train/ is in."""
        split, wnid, file = ("", "", "", *image.split("/"))[-3:]
        if split != "train" or wnid not in class_names():
            raise UserError(
                f"Expected {REFERENCE_LIST} to name train/<wnid>/<file> of the 100 classes, but it names {image!r}."
            )
        path = self._images / split / wnid / file
        if not path.is_file():
            raise UserError(f"Expected the images that {REFERENCE_LIST} names, but {path} does not exist; add it.")
        return self.listed(split, wnid, path)

    @property
    def _root(self) -> Path:
        return checked_root(self.root, "train/<wnid>/*.JPEG and val/<wnid>/*.JPEG of ImageNet")

    @property
    def _images(self) -> Path:
        """The folder that holds train/ and val/."""
        places = [self._root / inner for inner in ("", "imagenet1k", "data/imagenet1k")]
        return next((place for place in places if (place / "train").is_dir()), self._root)

    @cached_property
    def splits(self) -> tuple[ClassImages, ClassImages]:
        return _all_classes(self._images / "train"), _all_classes(self._images / "val")


def _listed(root: Path) -> list[str]:
    """The paths of the images in the public implementation's list of demonstrations, in its order."""
    places = [folder / REFERENCE_LIST for folder in (root, root / "data")]
    file = next((place for place in places if place.is_file()), None)
    if file is None:
        raise UserError(
            f"Expected {REFERENCE_LIST} in {root} for demonstrations=reference, but it is not there; copy it there "
            "from data/ of the paper's public implementation, or use demonstrations=balanced."
        )
    try:
        return [str(row["image"]) for row in json.loads(file.read_text(encoding="utf-8"))]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(
            f"Expected a JSON list of rows with an image in {file}, but it cannot be read ({error!r})."
        ) from error


def _all_classes(split: Path) -> ClassImages:
    names = class_names()
    images = class_images(split, only=names.keys())
    missing = [f"{wnid} ({name})" for wnid, name in names.items() if wnid not in images]
    if missing:
        raise UserError(
            f"ImageNet100 needs images of all 100 classes in {split}/<wnid>/, but has none of {named(missing)}."
        )
    return images
