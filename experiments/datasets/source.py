"""Rows of a published dataset: from the Hub (or its cache), or from the user's own copy of it."""

import base64
import glob
import io
import json
import logging
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError

from emloc.errors import UserError
from emloc.prompt import load_image
from experiments.datasets.base import named
from experiments.datasets.csv_table import DELIMITERS, read_csv

_LOG = logging.getLogger(__name__)
_TABLES = {".parquet": "parquet", ".json": "json", ".jsonl": "json"}  # suffix -> how `datasets` calls it
_SUFFIXES = (*_TABLES, *DELIMITERS)


@dataclass(frozen=True)
class Row:
    """One row; a cell that is not what it should be raises a UserError that names the row and the column."""

    cells: Mapping[str, Any]
    where: str  # of the row, for messages

    def text(self, column: str) -> str:
        """A text that is not empty."""
        value = self.cells[column]
        if not isinstance(value, str) or not value.strip():
            raise self.wrong(column, "a text that is not empty")
        return value

    def part(self, column: str) -> str:
        """A text that only says what part of the dataset the row belongs to: "unknown" where there is none."""
        value = self.cells[column]
        return value if isinstance(value, str) and value.strip() else "unknown"

    def texts(self, column: str) -> list[str]:
        """A list of at least one text."""
        value = self.cells[column]
        if not isinstance(value, list) or not value or not all(isinstance(item, str) for item in value):
            raise self.wrong(column, "a list of texts")
        return value

    def numbers(self, column: str, count: int) -> list[float]:
        """A list of `count` numbers."""
        value = self.cells[column]
        numeric = isinstance(value, list) and all(isinstance(item, int | float) for item in value)
        if not numeric or len(value) != count:
            raise self.wrong(column, f"a list of {count} numbers")
        return [float(item) for item in value]

    def letter(self, column: str, letters: str) -> str:
        """One of these letters."""
        value = self.text(column)
        if value not in tuple(letters):
            raise self.wrong(column, f"one of the letters {letters}")
        return value

    def lettered(self, options: str, answer: str, letters: str) -> tuple[list[str], str]:
        """The options, each as "A. text", and the letter of the one that the column `answer` has."""
        texts, right = self.texts(options), self.text(answer)
        if right not in texts or len(texts) > len(letters):
            raise self.wrong(answer, f"one of at most {len(letters)} options")
        listed = [f"{letter}. {text}" for letter, text in zip(letters, texts, strict=False)]
        return listed, letters[texts.index(right)]

    def wrong(self, column: str, expected: str) -> UserError:
        """The error that says what the column should hold, and what it does hold."""
        return UserError(f"{self.where} should have {expected} as {column!r}, but has {_short(self.cells[column])}.")


@dataclass(frozen=True)
class Table:
    """All rows of a split. Images are read when they are used, never all at once.

    `data` is a `datasets.Dataset` whose image columns are not decoded; `folder` is where relative paths in it begin.
    """

    data: Any
    where: str
    folder: Path

    def __len__(self) -> int:
        return len(self.data)

    def check(self, columns: Sequence[str]) -> None:
        """UserError if the table lacks one of these columns."""
        missing = [name for name in columns if name not in self.data.column_names]
        if missing:
            raise UserError(
                f"Expected the columns {', '.join(columns)} in {self.where}, but there is no {named(missing)}; "
                f"it has {', '.join(self.data.column_names)}."
            )

    def rows(self, columns: Sequence[str]) -> Iterator[Row]:
        """The rows, with these columns only."""
        for number, cells in enumerate(self.data.select_columns(list(columns))):
            yield Row(cells, f"Row {number} of {self.where}")

    def image(self, number: int, column: str) -> Callable[[], Image.Image]:
        """What reads the image in this cell: a file's bytes, or a path."""

        return lambda: open_image(self._cell(number, column), self._place(number, column), self.folder)

    def base64_image(self, number: int, column: str) -> Callable[[], Image.Image]:
        """What reads the image whose file this cell has as base64 text."""
        return lambda: open_base64(self._cell(number, column), self._place(number, column))

    def _cell(self, number: int, column: str) -> Any:
        return self.data.select_columns([column])[number][column]

    def _place(self, number: int, column: str) -> str:
        return f"row {number} of {self.where} as {column!r}"


def open_image(cell: Any, where: str, folder: Path) -> Image.Image:
    """The image of a cell as `datasets` stores it, or of a path relative to `folder`; UserError if there is none."""
    stored = cell if isinstance(cell, dict) else {"path": cell}
    data, path = stored.get("bytes"), stored.get("path")
    if data is None and not (isinstance(path, str) and path):
        raise UserError(f"Expected an image or its path in {where}, but got {_short(cell)}.")
    if data is None:
        return load_image(folder / str(path))
    return decoded(data, where)


def open_base64(cell: Any, where: str) -> Image.Image:
    """The image of a file that is written as base64 text; UserError if it is none."""
    try:
        data = base64.b64decode("".join(cell.split()), validate=True)
    except (AttributeError, ValueError) as error:
        raise UserError(f"Expected an image as base64 text in {where}, but got {_short(cell)} ({error}).") from error
    return decoded(data, where)


def decoded(data: bytes, where: str) -> Image.Image:
    """The RGB image of a file's bytes."""
    try:
        with Image.open(io.BytesIO(data)) as opened:
            return opened.convert("RGB")
    except (OSError, SyntaxError, ValueError, TypeError, Image.DecompressionBombError) as error:
        reason = "no known format" if isinstance(error, UnidentifiedImageError) else error
        raise UserError(f"Expected a readable image in {where}, but it is not one ({reason}).") from error


def load_table(
    hub_id: str | None,
    split: str,
    path: str | Path | None,
    *,
    subset: str | None = None,
    revision: str | None = None,
) -> Table:
    """The split of a dataset on the Hub, or of the copy at `path`.

    Parameters
    ----------
    hub_id
        None: the data at `path` are the user's own.
    path
        A parquet, JSON, JSON-lines, CSV or TSV file, or a folder: of `save_to_disk`, or with such files (those with the
        split in their name, if there are any). None: the Hub.
    subset
        The configuration on the Hub; in a folder that has one of this name, the files in that one are read.
    revision
        Branch or commit on the Hub.

    Raises
    ------
    UserError
        If there is no such data; it says what to download, and where to name it.
    """
    begin = None if path is None else Path(path).expanduser()
    try:
        with _quiet(bars=begin is None and sys.stderr.isatty()):
            data = _from_hub(hub_id, split, subset, revision) if begin is None else _from_disk(begin, split, subset)
    except UserError:
        raise
    except Exception as error:  # of many types: of the Hub's client, of pyarrow, of the disk
        reason = next(iter(str(_first_cause(error)).strip().splitlines()), type(error).__name__)
        where = f"{hub_id} on the Hub or in its cache" if begin is None else f"the data in {begin}"
        raise UserError(f"Expected {where}, but it cannot be loaded ({reason}); {_remedy(hub_id, revision)}") from error
    where = f"{hub_id} ({split})" if begin is None else str(begin)
    folder = Path() if begin is None else begin if begin.is_dir() else begin.parent
    return Table(_undecoded(data), where, folder)


def _first_cause(error: BaseException) -> BaseException:
    """What `datasets` found wrong, which it hides behind an error of its own."""
    return error if error.__cause__ is None else _first_cause(error.__cause__)


def _remedy(hub_id: str | None, revision: str | None) -> str:
    if hub_id is None:
        return "correct it, or name another file with dataset.path=FILE."
    of = "" if revision is None else f"--revision {revision} "
    return (
        f"download it with `hf download {hub_id} --repo-type dataset {of}--local-dir DIR` and name the folder with "
        "dataset.path=DIR."
    )


@contextmanager
def _quiet(*, bars: bool) -> Iterator[None]:
    """No retries and cache news of `datasets` and the Hub's client: what fails comes as an exception.

    `bars`: but their progress bars, as a download can take long.
    """
    import datasets  # takes seconds
    from huggingface_hub import logging as hub_voice

    voices = datasets.logging, hub_voice
    before, shown = [voice.get_verbosity() for voice in voices], datasets.is_progress_bar_enabled()
    for voice in voices:
        voice.set_verbosity(logging.CRITICAL)
    if not bars:
        datasets.disable_progress_bars()
    try:
        yield
    finally:
        for voice, level in zip(voices, before, strict=True):
            voice.set_verbosity(level)
        if shown:
            datasets.enable_progress_bars()


def _from_hub(hub_id: str | None, split: str, subset: str | None, revision: str | None) -> Any:
    import datasets

    _LOG.info("Loading %s (%s) from the Hub, or from its cache.", hub_id, split)
    return datasets.load_dataset(hub_id, subset, split=split, revision=revision)


def _from_disk(path: Path, split: str, subset: str | None) -> Any:
    import datasets

    if subset is not None and (path / subset).is_dir():
        return _from_disk(path / subset, split, None)
    if not path.exists():
        raise UserError(f"Expected dataset.path to be a file or a folder, but {path} does not exist.")
    if (path / "state.json").is_file() or (path / "dataset_dict.json").is_file():
        return _saved(path, split)
    files = [path] if path.is_file() else _files(path, split)
    if files[0].suffix in DELIMITERS:
        return read_csv(files)
    kind = _TABLES.get(files[0].suffix)
    if kind is None:
        raise UserError(f"Expected dataset.path to be a parquet, JSON, JSON-lines, CSV or TSV file, but got {path}.")
    return datasets.load_dataset(kind, data_files=[glob.escape(str(file)) for file in files], split="train")


def _saved(path: Path, split: str) -> Any:
    """The split of what `save_to_disk` left there."""
    import datasets

    stored = datasets.load_from_disk(str(path))
    if not isinstance(stored, datasets.DatasetDict):
        return stored
    if split not in stored:
        raise UserError(f"Expected the split {split} in {path}, but it has {', '.join(stored)}.")
    return stored[split]


def _files(folder: Path, split: str) -> list[Path]:
    """The tables of a split in a folder, all of one suffix: those with the split in their name, if there are any."""
    for suffix in _SUFFIXES:
        found = {file: file.relative_to(folder) for file in sorted(folder.rglob(f"*{suffix}"))}
        shown = {file: name for file, name in found.items() if not any(part.startswith(".") for part in name.parts)}
        of_split = [file for file, name in shown.items() if split in re.split(r"[-_/\\]", str(name.with_suffix("")))]
        if shown:
            return of_split or list(shown)
    raise UserError(
        f"Expected parquet, JSON, JSON-lines, CSV or TSV files in dataset.path, but {folder} has none; name the folder "
        "that the dataset was downloaded to."
    )


def _undecoded(data: Any) -> Any:
    import datasets

    for name, feature in data.features.items():
        if isinstance(feature, datasets.Image):
            data = data.cast_column(name, datasets.Image(decode=False))
    return data


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=repr)
    return text if len(text) <= 60 else f"{text[:60]}..."
