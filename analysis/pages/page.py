"""One HTML page that needs no other file: problems, tables, figures, options, versions and links to every run."""

import base64
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from string import Template
from typing import Any
from urllib.parse import quote

import pandas as pd

from analysis.figures.catalogue import Drawing
from analysis.pages.tables import Table
from analysis.runs.naming import options_of
from analysis.runs.wording import counted, number
from experiments.records.bundle import is_bundle
from experiments.records.files import LAYERS, LOG, PICTURE, PREDICTIONS, RECORD

# Figures keep a white background in dark mode: their colours are chosen for it.
_PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>$title</title>
<style>
:root { --ground: #fff; --text: #1b1b1b; --soft: #666; --line: #ddd; --panel: #f6f6f4; --warn: #fff4df;
        --link: #0a58a8 }
@media (prefers-color-scheme: dark) {
  :root { --ground: #16181b; --text: #e6e6e6; --soft: #a2a6ab; --line: #363a40; --panel: #1f2226; --warn: #3a2e14;
          --link: #7db8f0 }
}
* { box-sizing: border-box }
body { margin: 0 auto; max-width: 76rem; padding: 1rem; background: var(--ground); color: var(--text);
       font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere }
h1 { font-size: 1.5rem; margin: .5rem 0 } h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem }
a { color: var(--link) } .soft, figcaption { color: var(--soft); font-size: .875rem }
.problems { background: var(--warn); border-radius: .5rem; padding: .75rem 1rem }
.problems ul { margin: .3rem 0 0; padding-left: 1.2rem }
/* A shadow at the edge that a table goes on behind; the ground covers it where the table ends. */
.scroll { overflow-x: auto; background:
  linear-gradient(90deg, var(--ground) 40%, transparent) left / 3rem 100% local,
  linear-gradient(270deg, var(--ground) 40%, transparent) right / 3rem 100% local,
  linear-gradient(90deg, var(--line), transparent) left / 1rem 100%,
  linear-gradient(270deg, var(--line), transparent) right / 1rem 100%;
  background-repeat: no-repeat }
table { border-collapse: collapse; font-size: .875rem; overflow-wrap: normal }
th, td { padding: .3rem .45rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap;
         font-variant-numeric: tabular-nums }
th { font-weight: 600 } td.name, th.name { text-align: left }
.figures { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 22rem), 1fr)); gap: 1rem;
           align-items: start }
figure { margin: 0; background: var(--panel); border-radius: .5rem; padding: .75rem }
figure img { width: 100%; background: #fff; border-radius: .25rem; display: block }
figure h3 { font-size: 1rem; margin: 0 0 .5rem } figcaption { color: var(--text); margin-top: .5rem }
pre { background: var(--panel); padding: .75rem; border-radius: .5rem; overflow-x: auto; font-size: .8rem }
summary { cursor: pointer; padding: .15rem 0 }
</style>
</head>
<body>
<h1>$title</h1>
<p class="soft">$summary</p>
$body
</body>
</html>
""")


@dataclass(frozen=True)
class Content:
    """What the page shows. `runs` and `records` are those of `analysis.runs.load.Loaded`."""

    problems: Sequence[str]
    tables: Sequence[Table]
    figures: Sequence[tuple[Drawing, Path, Path]]  # with its PDF and its PNG
    versions: Mapping[str, Mapping[str, int]]
    runs: pd.DataFrame
    records: Mapping[str, Mapping[str, Any]]


def page(content: Content, folder: Path) -> str:
    """The page as it is written to `folder`; its links are relative to that."""
    settings = content.runs.groupby(["dataset", "model", "label", "shots", "delta"], dropna=False).ngroups
    return _PAGE.substitute(
        title="Report: " + escape(", ".join(sorted(content.runs["dataset"].unique()))),
        summary=f"{len(content.runs)} finished runs of {settings} settings, "
        f"{content.runs['n'].sum():,} answered queries.",
        body="\n".join(
            [
                _problems(content.problems),
                *map(_table, content.tables),
                _figures(content.figures, folder),
                _options(content.records.values()),
                _versions(content.versions),
                _runs(content.runs, content.records, folder),
            ]
        ),
    )


def _problems(problems: Sequence[str]) -> str:
    if not problems:
        return '<p class="soft">No problems were found in the folders.</p>'
    items = "".join(f"<li>{escape(problem)}</li>" for problem in problems)
    return f'<section class="problems"><strong>Caveats ({len(problems)})</strong><ul>{items}</ul></section>'


def _table(table: Table) -> str:
    rows = [
        [f"<strong>{escape(cell.text)}</strong>" if cell.bold else escape(cell.text) for cell in row]
        for row in table.rows
    ]
    notes = "<br>".join(map(escape, table.notes))
    return f"<h2>{escape(table.title)}</h2>{_grid(table.headers, rows, table.names)}<p class='soft'>{notes}</p>"


def _grid(headers: Sequence[str], rows: Iterable[Sequence[str]], names: int) -> str:
    """A table of finished HTML cells, the first `names` columns of which are text."""
    head = _row("th", map(escape, headers), names)
    body = "\n".join(_row("td", row, names) for row in rows)
    return f'<div class="scroll"><table><thead>{head}</thead><tbody>\n{body}\n</tbody></table></div>'


def _row(tag: str, cells: Iterable[str], names: int) -> str:
    kinds = ((' class="name"' if place < names else "", cell) for place, cell in enumerate(cells))
    return "<tr>" + "".join(f"<{tag}{kind}>{cell}</{tag}>" for kind, cell in kinds) + "</tr>"


def _figures(figures: Sequence[tuple[Drawing, Path, Path]], folder: Path) -> str:
    if not figures:
        return '<h2>Figures</h2><p class="soft">There are none, because no run has a context.</p>'
    return f'<h2>Figures</h2><div class="figures">{"".join(_figure(*figure, folder) for figure in figures)}</div>'


def _figure(drawing: Drawing, pdf: Path, png: Path, folder: Path) -> str:
    image = base64.b64encode(png.read_bytes()).decode()
    title, words = escape(drawing.title), escape(drawing.words)
    return (
        f'<figure><h3>{title}</h3><img alt="{title}: {words}" src="data:image/png;base64,{image}">'
        f"<figcaption>{words} {_link(pdf, 'PDF', folder)}, {_link(png, 'PNG', folder)}</figcaption></figure>\n"
    )


def _link(path: Path, text: str, folder: Path) -> str:
    return f'<a href="{quote(Path(os.path.relpath(path, folder)).as_posix())}">{escape(text)}</a>'


def _options(records: Iterable[Mapping[str, Any]]) -> str:
    """The options that all runs share, and those in which they differ."""
    values: dict[str, set[str]] = {}
    for record in records:
        for name, value in options_of(record).items():
            values.setdefault(name, set()).add(value)
    rows = [[escape(name), escape("; ".join(sorted(found)))] for name, found in sorted(values.items())]
    return f"<h2>Options</h2>{_grid(['option', 'values'], rows, names=2)}"


def _versions(versions: Mapping[str, Mapping[str, int]]) -> str:
    rows = [
        [escape(name), escape("; ".join(f"{value} ({counted(count)})" for value, count in counts.items()))]
        for name, counts in versions.items()
    ]
    return f"<h2>Versions</h2>{_grid(['', 'runs'], rows, names=2)}"


def _runs(runs: pd.DataFrame, records: Mapping[str, Mapping[str, Any]], folder: Path) -> str:
    ordered = runs.sort_values(["dataset", "model", "label", "shots", "delta", "seed"]).to_dict("records")
    headers = ["run", "shots", "delta", "seed", "score", "standard error", "n", "files"]
    grid = _grid(headers, [_run(row, folder) for row in ordered], names=1)
    configs = "".join(_config(row["run_id"], records[row["path"]]["config"]) for row in ordered)
    return f"<h2>Runs</h2>{grid}<h2>Configurations</h2>{configs}"


def _run(row: Mapping[str, Any], folder: Path) -> list[str]:
    home, files = _places(row)
    numbers = [str(row["shots"]), number(row["delta"], "g"), str(row["seed"]), f"{row['value']:.4f}"]
    links = ", ".join(_link(path, path.name, folder) for path in files)
    return [_link(home, row["run_id"], folder), *numbers, number(row["stderr"], ".4f"), str(row["n"]), links]


def _places(row: Mapping[str, Any]) -> tuple[Path, list[Path]]:
    """Where the run is, and its files to link to: those in its folder, or the bundle that it is in."""
    file = Path(row["file"])
    if is_bundle(file):
        return file, [file]
    files = [file.with_name(name) for name in sorted((RECORD, LAYERS, PICTURE, PREDICTIONS, LOG))]
    return file.parent, [path for path in files if path.is_file()]


def _config(name: str, config: Mapping[str, Any]) -> str:
    return f"<details><summary>{escape(name)}</summary><pre>{escape(json.dumps(config, indent=2))}</pre></details>\n"
