"""Labelled texts that come with the package, as tables in bundled/."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Annotated, ClassVar

from emloc.options import OptionError, Range
from experiments.datasets.base import Sample
from experiments.datasets.labelled_texts import LabelledTexts

FOLDER = Path(__file__).with_name("bundled")


@cache
def rows(file: str) -> tuple[dict[str, str], ...]:
    """The rows of a table in bundled/, each with split (pool or query), label and text."""
    with (FOLDER / file).open(encoding="utf-8", newline="") as opened:
        return tuple(csv.DictReader(opened))


@dataclass(frozen=True, kw_only=True)
class BundledTexts(LabelledTexts):
    """A task whose pool and queries are fixed: every class has the same number of rows in each.

    Sources, licences and the rules that rows are chosen by are in bundled/README.md.

    Parameters
    ----------
    class_count
        How many classes are used: the first of `all_classes`. Fewer make an easier task.
    """

    all_classes: ClassVar[tuple[str, ...]]
    files: ClassVar[tuple[str, ...]] = ()  # in bundled/; none: the one that is called like the dataset

    class_count: Annotated[int, Range(2)] = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.class_count > len(self.all_classes):
            raise OptionError("class_count", f"at most {len(self.all_classes)}, but got {self.class_count}.")

    @property
    def classes(self) -> tuple[str, ...]:
        return self.all_classes[: self.class_count]

    def pool(self) -> Sequence[Sample]:
        return self._splits["pool"]

    def samples(self) -> Sequence[Sample]:
        return self._splits["query"]

    @cached_property
    def _splits(self) -> dict[str, list[Sample]]:
        splits: dict[str, list[Sample]] = {"pool": [], "query": []}
        for file in self.files or (f"{self.name}.csv",):
            for number, row in enumerate(rows(file)):
                if row["label"] in self.classes:
                    splits[row["split"]].append(self.labelled(f"{row['split']}/{number}", row["text"], row["label"]))
        return splits
