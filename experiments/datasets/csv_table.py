"""CSV files as a table of texts, exactly as they are written: 007 stays 007, and NA is a text."""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from emloc.errors import UserError

DELIMITERS = {".csv": ",", ".tsv": "\t"}  # by suffix


def read_csv(files: Sequence[Path]) -> Any:
    """A `datasets.Dataset` with the rows of the files, one after the other; their first lines name the columns.

    A row with more or fewer cells than the first line has None in every column, so that it can be left out alone.

    Raises
    ------
    UserError
        If a file has no first line, names a column twice, has other columns than the first file, or is not UTF-8.
    """
    import datasets  # takes seconds

    tables = [_cells(file) for file in files]
    columns = tables[0][0]
    for file, (names, _) in zip(files, tables, strict=True):
        _check_columns(file, names, columns)
    rows = [row for _, found in tables for row in found]
    return datasets.Dataset.from_dict(
        {name: [row[i] for row in rows] for i, name in enumerate(columns)},
        features=datasets.Features(dict.fromkeys(columns, datasets.Value("string"))),
    )


def _cells(file: Path) -> tuple[list[str], list[list[str | None]]]:
    """The names of the columns, and the rows; empty lines are passed over."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as opened:
            names, *rows = [*_lines(opened, DELIMITERS[file.suffix])] or [[]]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"Expected a table in UTF-8 in {file}, but it cannot be read ({error}).") from error
    return names, [list(row) if len(row) == len(names) else [None] * len(names) for row in rows]


def _lines(opened: Any, delimiter: str) -> Iterator[list[str]]:
    yield from (row for row in csv.reader(opened, delimiter=delimiter, strict=True) if row)


def _check_columns(file: Path, names: Sequence[str], columns: Sequence[str]) -> None:
    if not names or len(set(names)) < len(names):
        raise UserError(f"Expected the first line of {file} to name every column once, but it is {', '.join(names)!r}.")
    if names != columns:
        raise UserError(
            f"Expected the columns {', '.join(columns)} in {file}, as in the first file; got {', '.join(names)}."
        )
