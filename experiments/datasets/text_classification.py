"""Text classification: anybody's table of texts and labels, from a file or from the Hub."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, ClassVar

from emloc.errors import UserError, nearest
from emloc.options import Count, Text, check_option
from experiments.datasets.base import Sample, named
from experiments.datasets.choice import balanced
from experiments.datasets.labelled_texts import LabelledTexts
from experiments.datasets.source import Row, Table, load_table
from experiments.metrics import bare

MOST_CLASSES = 1000
_CUT_SEED = 0  # of the choice of the pool: the same at every run
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class TextClassification(LabelledTexts):
    """A table with a column of texts and a column of labels: a file of the user's, or a dataset on the Hub.

    Demonstrations and queries come from two splits, or from two files. A single file (or `test_split` equal to
    `train_split`) is cut: the pool is `pool_size` rows, drawn with seed 0 so that every class has equally many as long
    as it lasts; the others are the queries, in their order. No text is in both: rows of the pool whose text is also a
    query's are left out of the pool, and so are rows that cannot be used.

    The classes are those of the label column: in its own order where it is a `ClassLabel`, else sorted.

    Parameters
    ----------
    path
        The user's file or folder (see `load_table`); None: the Hub.
    test_path
        A file or folder for the queries alone; None: `path`.
    hub_id, subset, revision
        The dataset on the Hub (owner/name), its configuration, and its branch or commit.
    text_column, label_column
        Columns of the table. Labels are texts, whole numbers or yes/no values.
    train_split, test_split
        The splits of demonstrations and queries.
    pool_size
        Rows for demonstrations, where one file gives both.
    names
        What labels are called in answers, by what the table has ("0", "1", ... for numbers); other labels stay as they
        are. Labels with the same name are one class.
    """

    name: ClassVar[str] = "text_classification"
    usual_names: ClassVar[Mapping[str, str]] = {}  # for `names`, where they are not given

    path: Text | Path | None = None
    test_path: Text | Path | None = None
    hub_id: Text | None = None
    subset: Text | None = None
    revision: Text | None = None
    text_column: Text = "text"
    label_column: Text = "label"
    train_split: Text = "train"
    test_split: Text = "test"
    pool_size: Count = 200
    names: Mapping[Any, Text] | None = None

    def __post_init__(self) -> None:
        if isinstance(self.names, Mapping):  # name by name, so that a message says which one is wrong
            for label, called in self.names.items():
                check_option(f"names.{label}", called, Text)
        super().__post_init__()
        if self.path is None and self.hub_id is None:
            raise UserError(
                "dataset.path is not given: write dataset.path=FILE (CSV, TSV, JSON, JSON lines or parquet, with the "
                "columns text and label, or with those that dataset.text_column and dataset.label_column name), or "
                "dataset.hub_id=OWNER/NAME."
            )

    @property
    def classes(self) -> tuple[str, ...]:
        return self._data[2]

    def pool(self) -> Sequence[Sample]:
        return self._data[0]

    def samples(self) -> Sequence[Sample]:
        return self._data[1]

    @property
    def _is_cut(self) -> bool:
        """Whether one table gives demonstrations and queries."""
        one_file = self.path is not None and Path(self.path).expanduser().is_file()
        return self.test_path is None and (one_file or self.train_split == self.test_split)

    @cached_property
    def _data(self) -> tuple[list[Sample], list[Sample], tuple[str, ...]]:
        """Pool, queries, classes."""
        table = self._load(self.path, self.train_split)
        samples = self._read(table, self.train_split)
        if self._is_cut:
            pool, queries = _cut(samples, self.pool_size, table.where)
        else:
            other = self._load(self.test_path or self.path, self.test_split)
            pool, queries = samples, self._read(other, self.test_split)
        pool = _candidates(pool, queries, table.where)
        return pool, queries, self._classes(table, [*pool, *queries])

    def _load(self, path: str | Path | None, split: str) -> Table:
        table = load_table(self.hub_id, split, path, subset=self.subset, revision=self.revision)
        table.check([self.text_column, self.label_column])
        return table

    def _read(self, table: Table, split: str) -> list[Sample]:
        ids = _label_names(table, self.label_column)
        rows = table.rows([self.text_column, self.label_column])
        named_rows = ((f"{split}/{number}", row) for number, row in enumerate(rows))
        return [Sample.made(name, partial(self._sample, name, row, ids)) for name, row in named_rows]

    def _sample(self, id: str, row: Row, ids: Sequence[str] | None) -> Sample:
        if all(cell is None for cell in row.cells.values()):
            raise UserError(
                f"{row.where} has neither {self.text_column!r} nor {self.label_column!r}; in a CSV file this is a row "
                "with more or fewer cells than the first line (a text with a comma needs quotes)."
            )
        return self.labelled(id, row.text(self.text_column), self._called(_label(row, self.label_column, ids)))

    def _called(self, label: str) -> str:
        return self._naming.get(label, label)

    @cached_property
    def _naming(self) -> Mapping[str, str]:
        given = self.usual_names if self.names is None else self.names
        return {str(label): called for label, called in given.items()}

    def _classes(self, table: Table, samples: Sequence[Sample]) -> tuple[str, ...]:
        ids = _label_names(table, self.label_column)
        found = {sample.label for sample in samples if sample.problem is None}
        classes = tuple(dict.fromkeys(map(self._called, ids))) if ids is not None else tuple(sorted(found))
        self._check_names(classes, table.where)
        if len(classes) > MOST_CLASSES:
            raise UserError(
                f"At most {MOST_CLASSES} classes can be used, but {self.label_column!r} in {table.where} has "
                f"{len(classes)}; name the column of the labels with dataset.label_column."
            )
        _check_told_apart(classes)
        return classes

    def _check_names(self, classes: Sequence[str], where: str) -> None:
        """UserError if a label that the user names is not in the table."""
        for label, called in (self.names or {}).items():
            if called not in classes:
                raise UserError(
                    f"Expected dataset.names to have labels of {where}, but no row has {str(label)!r}; there are "
                    f"{named(classes)}.{nearest(str(label), classes)}"
                )


def _label_names(table: Table, column: str) -> list[str] | None:
    """The names that the column itself has for its numbers."""
    return getattr(table.data.features[column], "names", None)


def _label(row: Row, column: str, ids: Sequence[str] | None) -> str:
    """The label of a row as a text, which has one line; UserError if it has none."""
    value = row.cells[column]
    if ids is not None:
        if not isinstance(value, int) or not 0 <= value < len(ids):
            raise row.wrong(column, f"a number from 0 to {len(ids) - 1}")
        return ids[value]
    if isinstance(value, float) and value.is_integer():
        return str(int(value))  # a column of whole numbers in which one is missing is read as floats
    if isinstance(value, int):
        return str(value)
    label = row.text(column).strip()
    if "\n" in label:
        raise row.wrong(column, "a label of one line")
    return label


def _cut(samples: Sequence[Sample], pool_size: int, where: str) -> tuple[list[Sample], list[Sample]]:
    """A pool of rows whose text occurs once, balanced by class, and the other rows; both in the table's order."""
    times = Counter(sample.question for sample in samples)
    usable = [sample for sample in samples if sample.problem is None and times[sample.question] == 1]
    if len(samples) <= pool_size or len(usable) < pool_size:
        raise UserError(
            f"Expected more than {pool_size} rows with texts of their own in {where}, of which {pool_size} are set "
            f"aside for demonstrations, but found {len(usable)}; use more rows or a smaller dataset.pool_size."
        )
    drawn = {sample.id for sample in balanced(usable, _CUT_SEED, group=lambda sample: sample.label)[:pool_size]}
    return [s for s in samples if s.id in drawn], [s for s in samples if s.id not in drawn]


def _candidates(pool: Sequence[Sample], queries: Sequence[Sample], where: str) -> list[Sample]:
    """The rows of the pool that can demonstrate, and a warning about the others."""
    asked = {sample.question for sample in queries if sample.problem is None}
    broken = [sample.problem for sample in pool if sample.problem is not None]
    left = [sample for sample in pool if sample.problem is None and sample.question not in asked]
    if broken:
        _LOG.warning("%d of %d rows cannot demonstrate. The first: %s", len(broken), len(pool), broken[0])
    if same := len(pool) - len(broken) - len(left):
        _LOG.warning("%d rows of %s do not demonstrate, as queries have the same texts.", same, where)
    if broken and not left:
        raise UserError(broken[0])
    if not left:
        raise UserError(
            f"Expected rows of {where} whose texts are not the queries', but there are none; where one table gives "
            "demonstrations and queries, dataset.test_split must be the same as dataset.train_split."
        )
    return left


def _check_told_apart(classes: Sequence[str]) -> None:
    seen: dict[str, str] = {}
    for label in classes:
        other = seen.setdefault(bare(label), label)
        if other != label:
            raise UserError(
                f"Classes {named([other, label])} cannot be told apart in an answer; give one of them another name "
                "with dataset.names."
            )
