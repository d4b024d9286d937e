"""Benchmarks as the paper's public implementation uses them: one split, a part of which gives the demonstrations."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from emloc.errors import UserError
from emloc.options import Count, CountOrZero, Text
from emloc.prompt import Visual
from experiments.datasets.base import Rule, Sample, Worded
from experiments.datasets.choice import reference_draw
from experiments.datasets.source import Row, Table, load_table
from experiments.metrics import Scoring

_PLACEHOLDER = "<image>"  # in questions of the data; the public implementation deletes it


@dataclass(frozen=True, kw_only=True)
class Published(Worded):
    """A split of a dataset on the Hub, cut into a pool of demonstrations and the rows that are evaluated.

    The pool is 100 rows that the public implementation's generator draws; the others are evaluated in their order. So
    it is at any number of shots, zero included, and scores can be compared with those of that implementation, not with
    those of a whole official split. Rows of pool and evaluation can share an image, a video or a drawing.

    Parameters
    ----------
    scoring
        `reference`: as the public implementation reads an answer, with its accidents; `strict`: without them.
    path
        The user's copy (see `load_table`); None: the Hub.
    rows
        How many rows the split must have; None: any number. With another number, other rows are drawn.
    pool_size
        Rows that the demonstrations are chosen from.
    prompt
        The constant texts of the user turn, by name. The wording is ours; where the public implementation's text is
        put in its place, the record's fingerprint tells whether it is the same.
    """

    hub_id: ClassVar[str]
    split: ClassVar[str]
    columns: ClassVar[tuple[str, ...]]  # that samples are made of, without those of images
    visual_columns: ClassVar[tuple[str, ...]] = ("image",)
    usual: ClassVar[Rule] = "reference"
    stop: ClassVar[str | None] = "\n\n"

    scoring: Scoring = "reference"
    path: Text | Path | None = None
    rows: Count | None = None
    pool_size: CountOrZero = 100

    @abstractmethod
    def sample(self, id: str, row: Row, visual: Visual) -> Sample:
        """The sample of a row; UserError, as `Row` raises it, if a cell cannot be used."""

    def visual(self, table: Table, number: int, row: Row) -> Visual:
        """What a row shows: by default the image in its first visual column."""
        return table.image(number, self.visual_columns[0])

    def check_files(self) -> None:
        """UserError if the files that rows name are not there at all."""

    def pool(self) -> Sequence[Sample]:
        return self._split[0]

    def samples(self) -> Sequence[Sample]:
        return self._split[1]

    def reference_choice(self, pool: Sequence[Sample], shots: int, seed: int) -> Sequence[Sample]:
        """A draw from the pool, in the order drawn: the same at every seed."""
        return [pool[number] for number in reference_draw(len(pool), shots)]

    @cached_property
    def _split(self) -> tuple[list[Sample], list[Sample]]:
        samples = self._samples(load_table(self.hub_id, self.split, self.path))
        drawn = reference_draw(len(samples), self.pool_size)
        taken = set(drawn)
        return [samples[number] for number in drawn], [s for number, s in enumerate(samples) if number not in taken]

    def _samples(self, table: Table) -> list[Sample]:
        table.check([*self.columns, *self.visual_columns])
        self._check_size(table)
        self.check_files()
        rows = table.rows(self.columns)
        return [self._made(table, number, row) for number, row in enumerate(rows)]

    def _made(self, table: Table, number: int, row: Row) -> Sample:
        name = f"{self.split}/{number}"

        def make() -> Sample:
            sample = self.sample(name, row, self.visual(table, number, row))
            return replace(sample, question=sample.question.replace(_PLACEHOLDER, ""))

        return Sample.made(name, make)

    def _check_size(self, table: Table) -> None:
        if self.rows is not None and len(table) != self.rows:
            raise UserError(
                f"Expected {self.rows} rows in split {self.split} of {self.name}, but found {len(table)} in "
                f"{table.where}; the demonstrations are drawn from the whole split, so complete it, or accept other "
                "demonstrations and queries with dataset.rows=null."
            )
        if len(table) <= self.pool_size:
            raise UserError(
                f"Expected more than {self.pool_size} rows in {table.where}, as that many are set aside for "
                f"demonstrations, but found {len(table)}; use more rows or a smaller dataset.pool_size."
            )
