"""Finished runs, small enough to be kept with a paper: what tables and figures are made of, and no more.

    python -m analysis.bundle FOLDER... --out FOLDER

Writes record.json and layers.csv of every finished run in and below the folders to a folder of the same name. Left out
are the scores of parts of a dataset, the demonstrations' ids (the hash of them stays), code words, the trials of the
search, and digits of layers.csv beyond the sixth. `analysis.report` and `analysis.claims` say the same of both.
"""

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.runs.load import LAYERS, RECORD, load_finished


def main(arguments: list[str] | None = None) -> int:
    """Entry point; the exit code is 1 if there is no finished run, or nothing can be written."""
    parser = argparse.ArgumentParser(prog="python -m analysis.bundle", description="Small copies of finished runs.")
    parser.add_argument("folders", nargs="+", help="run folders, or folders that hold some")
    parser.add_argument("--out", type=Path, required=True, help="where the copies go")
    options = parser.parse_args(arguments)
    loaded = load_finished(options.folders)
    if loaded is None:
        return 1
    for problem in loaded.problems:
        print(f"Note: {problem}", file=sys.stderr)
    try:
        for path, record in loaded.records.items():
            copy(record, Path(path).parent, options.out / Path(path).parent.resolve().name)
    except OSError as error:
        print(f"The copies cannot be written ({error}); choose another folder with --out FOLDER.", file=sys.stderr)
        return 1
    print(options.out)
    return 0


def copy(record: Mapping[str, Any], home: Path, folder: Path) -> None:
    """Write the small record, and the small layers.csv of the run in `home`, to `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    if (home / LAYERS).is_file():
        table = pd.read_csv(home / LAYERS).assign(candidates="")
        table.to_csv(folder / LAYERS, index=False, float_format="%.6g", lineterminator="\n")
    (folder / RECORD).write_text(json.dumps(small(record), separators=(",", ":")) + "\n", encoding="utf-8")


def small(record: Mapping[str, Any]) -> dict[str, Any]:
    """The record without what no table or figure shows."""
    return {
        **record,
        "metric": {**record["metric"], "parts": {}},
        "other_metrics": [{**metric, "parts": {}} for metric in record["other_metrics"]],
        "demonstrations": {**record["demonstrations"], "ids": []},
        "answers": {**record["answers"], "words": {}},
    }


if __name__ == "__main__":
    raise SystemExit(main())
