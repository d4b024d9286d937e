"""Table and curves of finished runs.

    python -m analysis.report FOLDER... [--out FOLDER]

Prints a Markdown table of all runs below the folders and writes shots.png and delta.png where there is something to
draw: a method that was run with several shot counts, or with several limits.
"""

import argparse
import sys
from pathlib import Path

import pandas as pd

from analysis.figures import curve
from analysis.load import load_runs
from analysis.tables import runs_table

AXES = ("shots", "delta")


def main(arguments: list[str] | None = None) -> int:
    """Entry point; the exit code is 1 if there is no finished run."""
    parser = argparse.ArgumentParser(prog="python -m analysis.report", description="Table and curves of finished runs.")
    parser.add_argument("folders", nargs="+", help="run folders, or folders that hold some")
    parser.add_argument("--out", type=Path, help="where the pictures go (default: the first folder)")
    options = parser.parse_args(arguments)
    runs, problems = load_runs(options.folders)
    for problem in problems:
        print(f"Note: {problem}", file=sys.stderr)
    if runs.empty:
        print(f"Expected finished runs below {' '.join(options.folders)}, but found none; run some.", file=sys.stderr)
        return 1
    print(runs_table(runs))
    for path in draw(runs, options.out or Path(options.folders[0])):
        print(f"\n{path}")
    return 0


def draw(runs: pd.DataFrame, folder: Path) -> list[Path]:
    """Write the curves that these runs allow; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for axis in AXES:
        varied = varying(runs, axis)
        if not varied.empty:
            written.append(folder / f"{axis}.png")
            curve(varied, axis).savefig(written[-1], dpi=110)
    return written


def varying(runs: pd.DataFrame, axis: str) -> pd.DataFrame:
    """The runs that differ from others in nothing but `axis`."""
    others = [name for name in ("dataset", "method", "model", "seed", *AXES) if name != axis]
    counts = runs.groupby(others, dropna=False)[axis].transform("nunique")
    return runs[counts > 1]


if __name__ == "__main__":
    raise SystemExit(main())
