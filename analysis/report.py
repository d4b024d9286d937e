"""Tables, figures and one self-contained page of finished runs.

    python -m analysis.report FOLDER... [--out FOLDER] [--over seeds|queries]

Reads all runs in and below the folders, and all bundles (.jsonl). Writes report.html, every figure as PDF and PNG, and
every table as Markdown, LaTeX and CSV; prints the table and, last, the path of the page. In a notebook:

    report = read(["multirun/experiment=table_main"])
    report.tables["comparison"]                              # shows itself
    [drawing.figure for drawing in report.drawings()]
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from analysis.figures.catalogue import Drawing, drawings, unequal
from analysis.figures.style import save
from analysis.pages.page import Content, page
from analysis.pages.tables import Table, comparison, costs, latex, markdown, other_metrics, text_csv
from analysis.runs.checks import check, versions
from analysis.runs.load import Loaded, load, load_finished
from analysis.runs.seeds import MEANINGS
from analysis.runs.seeds import settings as aggregated

REPORT = "report.html"


@dataclass(frozen=True)
class Report:
    """What finished runs show; there is at least one."""

    loaded: Loaded
    over: str | None = None  # what intervals are over: "seeds" or "queries"; None: seeds where most settings have some

    @cached_property
    def settings(self) -> pd.DataFrame:
        """One row per setting, means over its seeds; see `analysis.runs.seeds.settings`."""
        return aggregated(self.loaded.runs, self.loaded.scores, over=self.over)

    @property
    def problems(self) -> list[str]:
        """What a reader must know before the numbers, one sentence each."""
        return [*self.loaded.problems, *check(self.loaded), *unequal(self.settings)]

    @cached_property
    def tables(self) -> dict[str, Table]:
        """`comparison`, `costs`, and the other metrics of every dataset that has some, by the stem of their files."""
        others = [] if self.loaded.others.empty else other_metrics(self._others)
        numbers = ["", *(f"-{number}" for number in range(2, len(others) + 1))]
        named = {f"other_metrics{number}": table for number, table in zip(numbers, others, strict=False)}
        return {"comparison": comparison(self.settings), "costs": costs(self.settings), **named}

    @property
    def _others(self) -> pd.DataFrame:
        # With the intervals that the other tables of the page have.
        over = str(self.settings["interval_over"].iloc[0])
        return aggregated(self.loaded.others, self.loaded.scores, over=over)

    def drawings(self) -> Iterator[Drawing]:
        """Every figure that the runs allow."""
        return drawings(self.settings, self.loaded.layers)

    def write(self, folder: Path) -> Path:
        """Write everything to `folder`; returns the path of the page."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, table in self.tables.items():
            for suffix, text in (("md", markdown(table)), ("tex", latex(table)), ("csv", text_csv(table))):
                (folder / f"{name}.{suffix}").write_text(text, encoding="utf-8")
        self.settings.to_csv(folder / "settings.csv", index=False)
        self.loaded.runs.to_csv(folder / "runs.csv", index=False)
        path = folder / REPORT
        path.write_text(page(self._content(folder), folder), encoding="utf-8")
        return path

    def _content(self, folder: Path) -> Content:
        figures = [(drawing, *save(drawing.figure, folder / drawing.name)) for drawing in self.drawings()]
        tables = list(self.tables.values())
        loaded = self.loaded
        return Content(self.problems, tables, figures, versions(loaded), loaded.runs, loaded.records)


def read(folders: Sequence[str | Path]) -> Report | None:
    """The report of all finished runs in and below the folders; None if there are none."""
    loaded = load(folders)
    return None if loaded.runs.empty else Report(loaded)


def main(arguments: list[str] | None = None) -> int:
    """Entry point; the exit code is 1 if there is no finished run, or nothing can be written."""
    parser = argparse.ArgumentParser(
        prog="python -m analysis.report", description="Tables and figures of finished runs."
    )
    parser.add_argument("folders", nargs="+", help="run folders, folders that hold some, or bundles")
    parser.add_argument("--out", type=Path, help="where the report goes (default: the first folder)")
    parser.add_argument(
        "--over",
        choices=sorted(MEANINGS),
        help="what intervals are over (default: seeds, if most settings have several)",
    )
    options = parser.parse_args(arguments)
    loaded = load_finished(options.folders)
    if loaded is None:
        return 1
    try:
        path = _write(Report(loaded, options.over), options.out or _home(options.folders[0]))
    except OSError as error:
        print(f"The report cannot be written ({error}); choose another folder with --out FOLDER.", file=sys.stderr)
        return 1
    print(f"\n{path}")
    return 0


def _home(folder: str) -> Path:
    path = Path(folder)
    return path if path.is_dir() else path.parent


def _write(report: Report, folder: Path) -> Path:
    """Print the table, and the problems as notes, and write everything."""
    folder.mkdir(parents=True, exist_ok=True)  # if it cannot be written, say that and nothing else
    for problem in report.problems:
        print(f"Note: {problem}", file=sys.stderr)
    print(markdown(report.tables["costs"]), end="")
    return report.write(folder)


if __name__ == "__main__":
    raise SystemExit(main())
