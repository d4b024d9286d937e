"""Tables, figures and one self-contained page of finished runs.

    python -m analysis.report FOLDER... [--out FOLDER]

Reads all runs in and below the folders. Writes report.html, every figure as PDF and PNG, and every table as Markdown,
LaTeX and CSV; prints the table and, last, the path of the page.
"""

import argparse
import sys
from pathlib import Path

import pandas as pd

from analysis.figures.catalogue import drawings, unequal
from analysis.figures.style import save
from analysis.pages.page import Content, page
from analysis.pages.tables import Table, comparison, costs, latex, markdown, other_metrics, text_csv
from analysis.runs.checks import check, versions
from analysis.runs.load import Loaded, load_finished
from analysis.runs.seeds import settings as aggregated

REPORT = "report.html"


def main(arguments: list[str] | None = None) -> int:
    """Entry point; the exit code is 1 if there is no finished run, or nothing can be written."""
    parser = argparse.ArgumentParser(
        prog="python -m analysis.report", description="Tables and figures of finished runs."
    )
    parser.add_argument("folders", nargs="+", help="run folders, or folders that hold some")
    parser.add_argument("--out", type=Path, help="where the report goes (default: the first folder)")
    options = parser.parse_args(arguments)
    loaded = load_finished(options.folders)
    if loaded is None:
        return 1
    try:
        path = write(loaded, options.out or _home(options.folders[0]))
    except OSError as error:
        print(f"The report cannot be written ({error}); choose another folder with --out FOLDER.", file=sys.stderr)
        return 1
    print(f"\n{path}")
    return 0


def _home(folder: str) -> Path:
    path = Path(folder)
    return path if path.is_dir() else path.parent


def write(loaded: Loaded, folder: Path) -> Path:
    """Write everything to `folder` and print the table, and the problems as notes; returns the path of the page."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = aggregated(loaded.runs)
    problems = [*loaded.problems, *check(loaded), *unequal(settings)]
    for problem in problems:
        print(f"Note: {problem}", file=sys.stderr)
    tables = {"comparison": comparison(settings), "costs": costs(settings), **_others(loaded.others)}
    print(markdown(tables["costs"]), end="")
    _write_tables(tables, settings, loaded.runs, folder)
    figures = [(drawing, *save(drawing.figure, folder / drawing.name)) for drawing in drawings(settings, loaded.layers)]
    content = Content(problems, list(tables.values()), figures, versions(loaded), loaded.runs, loaded.records)
    path = folder / REPORT
    path.write_text(page(content, folder), encoding="utf-8")
    return path


def _others(others: pd.DataFrame) -> dict[str, Table]:
    """A table per dataset with other metrics, under the stem of its files."""
    tables = other_metrics(aggregated(others)) if not others.empty else []
    numbers = ["", *(f"-{number}" for number in range(2, len(tables) + 1))]
    return {f"other_metrics{number}": table for number, table in zip(numbers, tables, strict=False)}


def _write_tables(tables: dict[str, Table], settings: pd.DataFrame, runs: pd.DataFrame, folder: Path) -> None:
    for name, table in tables.items():
        for suffix, text in (("md", markdown(table)), ("tex", latex(table)), ("csv", text_csv(table))):
            (folder / f"{name}.{suffix}").write_text(text, encoding="utf-8")
    settings.to_csv(folder / "settings.csv", index=False)
    runs.to_csv(folder / "runs.csv", index=False)


if __name__ == "__main__":
    raise SystemExit(main())
