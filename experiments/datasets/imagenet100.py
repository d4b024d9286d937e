"""ImageNet100: the first 100 synsets of the user's ImageNet-1k folder, the paper's first benchmark."""

import csv
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import ClassVar

from emloc.errors import UserError
from experiments.datasets.base import Sample, named
from experiments.datasets.classification import Classification
from experiments.datasets.image_folder import ClassImages, checked_root, class_images
from experiments.metrics import MetricSpec, normalised_substring

QUERIES_PER_CLASS = 50  # the official validation set
_CLASS_FILE = Path(__file__).with_name("imagenet100_classes.csv")
_LOG = logging.getLogger(__name__)


@cache
def class_names() -> dict[str, str]:
    """WordNet id -> class name, in the order of the ids."""
    with _CLASS_FILE.open(encoding="utf-8", newline="") as file:
        return {row["wnid"]: row["name"] for row in csv.DictReader(file)}


@dataclass(frozen=True, kw_only=True)
class ImageNet100(Classification):
    """`train/<wnid>/*` are the candidates for demonstrations, `val/<wnid>/*` the queries (5,000 when complete).

    200 shots are two images of each class. The paper's own 200 images are a fixed choice that its authors drew, and the
    first shots of theirs are not class-balanced; here the seed chooses and any number of shots is balanced. The wording
    of the question is ours. Folders of other synsets are not looked into, so the whole ImageNet-1k tree serves as well.

    Parameters
    ----------
    root
        The folder that holds train/ and val/, or imagenet1k/ with these.
    """

    name: ClassVar[str] = "imagenet100"
    metrics: ClassVar[tuple[MetricSpec, ...]] = (MetricSpec("substring accuracy"),)

    root: str | Path | None = None
    question: str = "Which category is this image?"
    max_new_tokens: int = 32
    visual_tokens: int | None = 64

    def __post_init__(self) -> None:
        super().__post_init__()
        _, val = self._splits
        odd = [wnid for wnid, files in val.items() if len(files) != QUERIES_PER_CLASS]
        if odd:
            _LOG.warning(
                "ImageNet has %d validation images per class; %s have another number (%d images in all).",
                QUERIES_PER_CLASS, named(odd), sum(map(len, val.values())),
            )  # fmt: skip

    def pool(self) -> Sequence[Sample]:
        return self._samples("train", self._splits[0])

    def samples(self) -> Sequence[Sample]:
        return self._samples("val", self._splits[1])

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(class_names().values())

    def answer(self, sample: Sample) -> str:
        return f"{sample.label}."

    def agreement(self, prediction: str, label: str) -> float:
        return normalised_substring(prediction, label)

    @cached_property
    def _splits(self) -> tuple[ClassImages, ClassImages]:
        root = checked_root(self.root, "train/<wnid>/*.JPEG and val/<wnid>/*.JPEG of ImageNet")
        if not (root / "train").is_dir() and (root / "imagenet1k").is_dir():
            root = root / "imagenet1k"
        return _all_classes(root / "train"), _all_classes(root / "val")

    def _samples(self, split: str, images: ClassImages) -> list[Sample]:
        names = class_names()
        return [
            self.sample(f"{split}/{wnid}/{file.name}", file, names[wnid])
            for wnid, files in images.items()
            for file in files
        ]


def _all_classes(split: Path) -> ClassImages:
    names = class_names()
    images = class_images(split, only=names.keys())
    missing = [f"{wnid} ({name})" for wnid, name in names.items() if wnid not in images]
    if missing:
        raise UserError(
            f"ImageNet100 needs images of all 100 classes in {split}/<wnid>/, but has none of {named(missing)}."
        )
    return images
