"""Where finished runs are: in folders of their own, as the runner leaves them, or as lines of a bundle."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.runs.scores import Scores
from experiments.records.bundle import BundledRun, bundles, is_bundle, read_bundle
from experiments.records.files import LAYERS, PREDICTIONS, RECORD, TRACES
from experiments.records.layers import COLUMNS

_NUMBERS = [name for name in COLUMNS if name != "candidates"]


class UnusableError(Exception):
    """Why a run cannot be used: the rest of a sentence that begins with its path."""


@dataclass(frozen=True)
class FoundRun:
    """A run that has a record, not yet read.

    path: its record.json, or FILE:LINE in a bundle; different for each run. file: the record.json, or the bundle.
    folder: the name of the run's folder. record, layers and scores: read what their names say. `record` raises
    UnusableError, `layers` OSError, ValueError or KeyError; `scores` are empty where they are not known.
    """

    path: str
    file: Path
    folder: str
    record: Callable[[], Any]
    layers: Callable[[], pd.DataFrame]
    scores: Callable[[], Scores]


def find(roots: Sequence[Path]) -> tuple[list[FoundRun], list[str]]:
    """All runs that have a record in and below the roots, each once, and a sentence for everything else."""
    problems = list(dict.fromkeys(problem for root in roots for problem in _folder_problems(root)))
    found: list[FoundRun] = []
    for file in _files(roots):
        if is_bundle(file):
            lines, damaged = _of_bundle(file)
            found += lines
            problems += damaged
        else:
            found.append(_of_folder(file))
    return found, problems


def _folder_problems(root: Path) -> Iterator[str]:
    if not root.exists():
        yield f"{root} does not exist."
        return
    unfinished = sorted({path.parents[trace.count("/")] for trace in TRACES for path in root.rglob(trace)})
    unfinished = [folder for folder in unfinished if not (folder / RECORD).exists()]
    yield from (f"{folder} is unfinished: {_progress(folder)}, but no {RECORD}." for folder in unfinished)
    if not unfinished and not _files([root]):
        yield f"{root} holds no runs: there is no {RECORD} and no bundle (.jsonl) in it or below it."


def _progress(folder: Path) -> str:
    predictions = folder / PREDICTIONS
    answered = len(predictions.read_bytes().splitlines()) if predictions.is_file() else 0
    return f"it has {answered} answered {'query' if answered == 1 else 'queries'}"


def _files(roots: Iterable[Path]) -> list[Path]:
    """Every record and bundle once, even if folders are given twice or are inside each other."""
    paths = [path for root in roots for path in ([root] if root.is_file() else _below(root))]
    return list({path.resolve(): path for path in reversed(paths)}.values())[::-1]


def _below(root: Path) -> list[Path]:
    return [*sorted(root.rglob(RECORD)), *bundles(root)]


def _of_folder(path: Path) -> FoundRun:
    table, predictions, folder = path.with_name(LAYERS), path.with_name(PREDICTIONS), path.resolve().parent.name
    return FoundRun(
        str(path), path, folder, lambda: _read(path), lambda: _read_layers(table),
        lambda: Scores.of_predictions(predictions),
    )  # fmt: skip


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UnusableError(f"cannot be read ({error})") from None


def _read_layers(path: Path) -> pd.DataFrame:
    # As text: pandas' own reader of decimals is off in the last bit, and a run should give the same as its bundle.
    return _typed(pd.read_csv(path, usecols=list(COLUMNS), dtype=str))


def _of_bundle(path: Path) -> tuple[list[FoundRun], list[str]]:
    """The runs of a bundle, and a sentence for each line that is none."""
    runs, problems = [], []
    try:
        for number, line in read_bundle(path):
            if isinstance(line, BundledRun):
                runs.append(_of_line(f"{path}:{number}", path, line))
            else:
                problems.append(f"{path}:{number} is not a run ({line}); left out.")
    except (OSError, ValueError) as error:
        problems.append(f"{path} cannot be read ({error}); left out.")
    if runs or len(problems) == 1:
        return runs, problems
    # A file of another kind deserves one sentence, not one per line.
    why = f"none of its {len(problems)} lines is one" if problems else "it is empty"
    return [], [f"{path} holds no runs: {why}."]


def _of_line(path: str, file: Path, line: BundledRun) -> FoundRun:
    return FoundRun(
        path, file, line.folder, lambda: line.record, lambda: _bundled_layers(line), lambda: _bundled_scores(line)
    )


def _bundled_scores(line: BundledRun) -> Scores:
    try:
        return Scores.of_stored(line.scores)
    except (ValueError, KeyError, TypeError, AttributeError):
        return Scores()


def _bundled_layers(line: BundledRun) -> pd.DataFrame:
    if not line.layers:
        raise ValueError(f"the bundle has no {LAYERS} of it")
    names, *rows = line.layers
    return _typed(pd.DataFrame(rows, columns=names))


def _typed(table: pd.DataFrame) -> pd.DataFrame:
    """The columns of layers.csv, each of its type; a bundle leaves the trials of the search out."""
    table = table if "candidates" in table else table.assign(candidates="")
    whole = {**dict.fromkeys(_NUMBERS, float), "chunk": int, "layer": int, "candidates": str}
    return table[list(COLUMNS)].fillna({"candidates": ""}).astype(whole)
