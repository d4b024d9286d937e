"""Many finished runs in one file: JSON lines, one run per line.

A line is an object: `folder` (the name of the run's folder), `record` (its record.json), `layers` (its layers.csv
as a list of rows, the names of the columns first; null if the run has none) and `scores` (of every query: a fingerprint
of their ids, and scores by metric; null, or missing in older files, if they are not known).
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from experiments.records.files import PREDICTIONS, write_atomically

SUFFIX = ".jsonl"


@dataclass(frozen=True)
class BundledRun:
    """One line of a bundle."""

    folder: str
    record: dict[str, Any]
    layers: list[list[Any]] | None
    scores: dict[str, Any] | None = None

    def line(self) -> str:
        """The run as it is stored."""
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def of(cls, line: str) -> "BundledRun":
        """Read a line; ValueError if it is not a run."""
        stored = json.loads(line)
        if not isinstance(stored, dict) or not isinstance(stored.get("record"), dict):
            raise ValueError("it has no record")
        return cls(str(stored.get("folder", "")), stored["record"], stored.get("layers"), stored.get("scores"))


def is_bundle(path: Path) -> bool:
    """Whether a file of this name is a bundle; a run's predictions are JSON lines, too."""
    return path.suffix == SUFFIX and path.name != PREDICTIONS


def bundles(root: Path) -> list[Path]:
    """The bundles in and below a folder, or the one that `root` itself is."""
    if root.is_file():
        return [root] if is_bundle(root) else []
    return sorted(path for path in root.rglob(f"*{SUFFIX}") if is_bundle(path))


def read_bundle(path: Path) -> Iterator[tuple[int, BundledRun | ValueError]]:
    """Every line's number, from 1, with the run on it, or with what is wrong; blank lines are skipped.

    OSError or UnicodeDecodeError if the file cannot be read.
    """
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if line.strip():
            yield number, _read(line)


def _read(line: str) -> BundledRun | ValueError:
    try:
        return BundledRun.of(line)
    except ValueError as error:
        return error


def write_bundle(path: Path, runs: Iterable[BundledRun]) -> None:
    """Write the runs, one per line; a file that is there already is replaced as a whole."""
    write_atomically(path, "".join(f"{run.line()}\n" for run in runs))
