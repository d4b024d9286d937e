"""Finished runs in one small file, to be kept with a paper: what tables and figures are made of, and no more.

    python -m analysis.bundle FOLDER... --out FILE.jsonl

Writes every finished run in and below the folders (bundles may be among them) as a line of FILE. Left out are the
scores of parts of a dataset, the answers (their scores stay), all ids (hashes of them stay), code words, the trials of
the search, and digits beyond the sixth of layers.csv and of scores. `analysis.report` and `analysis.claims` give the
same for both.
"""

import argparse
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.runs.load import Loaded, load_finished
from experiments.records.bundle import SUFFIX, BundledRun, is_bundle, write_bundle
from experiments.records.layers import COLUMNS

_COLUMNS = [name for name in COLUMNS if name != "candidates"]


def main(arguments: list[str] | None = None) -> int:
    """Entry point; the exit code is 1 if there is no finished run, or the file cannot be written."""
    parser = argparse.ArgumentParser(prog="python -m analysis.bundle", description="Finished runs in one small file.")
    parser.add_argument("folders", nargs="+", help="run folders, folders that hold some, or bundles")
    parser.add_argument("--out", type=Path, required=True, help=f"the file to write, FILE{SUFFIX}")
    options = parser.parse_args(arguments)
    if not is_bundle(options.out):
        print(f"Expected --out FILE{SUFFIX}, but got {options.out}.", file=sys.stderr)
        return 1
    loaded = load_finished(options.folders)
    return 1 if loaded is None else _written(loaded, options.out)


def _written(loaded: Loaded, path: Path) -> int:
    for problem in loaded.problems:
        print(f"Note: {problem}", file=sys.stderr)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bundle(path, bundled(loaded))
    except OSError as error:
        print(f"The bundle cannot be written ({error}); choose another file with --out FILE{SUFFIX}.", file=sys.stderr)
        return 1
    print(path)
    return 0


def bundled(loaded: Loaded) -> Iterator[BundledRun]:
    """Every run that was loaded, small."""
    for run in loaded.runs.to_dict("records"):
        rows = loaded.layers[loaded.layers["run_id"] == run["run_id"]]
        scores = loaded.scores(run["path"]).stored()
        yield BundledRun(run["folder"], small(loaded.records[run["path"]]), _small_layers(rows), scores)


def small(record: Mapping[str, Any]) -> dict[str, Any]:
    """The record without what no table or figure shows."""
    return {
        **record,
        "metric": {**record["metric"], "parts": {}},
        "other_metrics": [{**metric, "parts": {}} for metric in record["other_metrics"]],
        "demonstrations": {**record["demonstrations"], "ids": []},
        "answers": {**record["answers"], "words": {}},
    }


def _small_layers(rows: pd.DataFrame) -> list[list[Any]]:
    """The rows of layers.csv, the names of their columns first."""
    return [_COLUMNS, *([_short(value) for value in row] for row in rows[_COLUMNS].itertuples(index=False))]


def _short(value: float) -> float | None:
    """Six digits, without a fraction of zero; None for a number that is not known."""
    if pd.isna(value):
        return None
    rounded = float(f"{value:.6g}")
    return int(rounded) if rounded.is_integer() else rounded


if __name__ == "__main__":
    raise SystemExit(main())
