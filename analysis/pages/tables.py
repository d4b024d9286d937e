"""Tables of settings, from the records alone: a missing cell is marked, and all that share the best are bold."""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from analysis.runs.seeds import CELL, bars, several, telling
from analysis.runs.wording import MISSING, interval_text, number, with_unit

_ROW = ["label", "delta"]
_COLUMN = [*CELL, "shots"]
_BOLD = (
    "Bold: the best mean on the same queries with as many shots, and all scores that do not differ from it by a paired "
    "test at 5 %."
)
_LATEX = {
    "\\": r"\textbackslash{}", "_": r"\_", "%": r"\%", "&": r"\&", "#": r"\#", "$": r"\$", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "–": "--", "×": r"$\times$",
}  # fmt: skip


@dataclass(frozen=True)
class Cell:
    """The text of a cell."""

    text: str
    bold: bool = False


@dataclass(frozen=True)
class Table:
    """Cells under headers; the first `names` columns are text, the others numbers."""

    title: str
    headers: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    names: int
    notes: Sequence[str]

    def _repr_markdown_(self) -> str:
        """How a notebook shows it."""
        return markdown(self)


def other_metrics(settings: pd.DataFrame) -> list[Table]:
    """For every dataset that has other metrics than the one that runs are compared by, a table of those."""
    return [comparison(rows, title="Other metrics") for _, rows in settings.groupby("dataset", sort=True)]


def comparison(settings: pd.DataFrame, title: str = "Scores") -> Table:
    """Scores: a row per method and limit, a column per dataset, model, metric and number of shots that occurs."""
    columns = list(settings.groupby(_COLUMN, sort=True))
    varied = [*telling(settings), *(["shots"] if several(settings["shots"]) else [])]
    keys = settings.groupby(_ROW, dropna=False, sort=True)
    names = [_column_name(rows, varied or ["metric"]) for _, rows in columns]
    return Table(
        title=f"{title}: {_column_name(settings, [name for name in _COLUMN if name not in varied])}".removesuffix(": "),
        headers=["method", "delta", *names],
        rows=[
            [Cell(str(label)), Cell(number(delta, "g")), *(_found(rows, part) for _, part in columns)]
            for (label, delta), rows in keys
        ],
        names=1,
        notes=_comparison_notes(settings, cells=len(keys) * len(columns)),
    )


def _column_name(rows: pd.DataFrame, shown: Sequence[str]) -> str:
    return ", ".join(_named(rows.iloc[0].to_dict(), name) for name in shown)


def _named(row: dict, column: str) -> str:
    if column in ("shots", "queries"):
        return f"{row[column]:,} {column}"
    return with_unit(row["metric"], row["unit"]) if column == "metric" else str(row[column])


def _found(row: pd.DataFrame, column: pd.DataFrame) -> Cell:
    """The one setting that is in both, if there is one."""
    common = row.index.intersection(column.index)
    return Cell(MISSING) if common.empty else _score_cell(row.loc[common[0]].to_dict())


def _score_cell(row: dict) -> Cell:
    return Cell(score(row), bold=bool(row["best"]))


def _comparison_notes(settings: pd.DataFrame, cells: int) -> list[str]:
    notes = [f"Score [{bars(settings)}] (seeds × queries).", _BOLD]
    missing = cells - len(settings)
    if missing:
        notes.append(f"{MISSING}: no finished run ({missing} of {cells} cells); under delta: the method has no limit.")
    return notes


def costs(settings: pd.DataFrame) -> Table:
    """One row per setting: its score, and what its context costs."""
    ordered = settings.sort_values([*CELL, "label", "shots", "delta"])
    shown = ["dataset", *(name for name in telling(settings) if name != "dataset")]
    known = {name: cost for name, cost in _COSTS.items() if name not in _RARE or settings[_RARE[name]].notna().any()}
    return Table(
        title="Scores and costs",
        headers=[*shown, "method", "shots", "delta", _score_header(settings), *known],
        rows=[
            [*_names(row, shown), _score_cell(row), *(Cell(cost(row)) for cost in known.values())]
            for row in ordered.to_dict("records")
        ],
        names=len(shown) + 1,
        notes=[
            f"Score [{bars(settings)}] (seeds × queries).",
            _BOLD,
            "Tokens are cache entries per KV head, means over layers and seeds. Times depend on the machine.",
            *([_DRIFT] if settings["js_total"].notna().any() else []),
            *_baselines(settings),
            f"{MISSING}: not applicable, or unknown.",
        ],
    )


def _baselines(settings: pd.DataFrame) -> list[str]:
    """What scores need no model, dataset by dataset."""
    known = settings.dropna(subset=["baseline_chance", "baseline_majority"]).groupby("dataset", sort=True)
    texts = [
        f"{dataset}: chance {_percent(rows['baseline_chance'])}, the most frequent answer to every query "
        f"{_percent(rows['baseline_majority'])}"
        for dataset, rows in known
    ]
    return ["; ".join(texts) + "."] if texts else []


def _percent(shares: pd.Series) -> str:
    return f"{100 * shares.mean():.1f} %"


_COSTS: Mapping[str, Callable[[dict], str]] = {
    "tokens kept of full": lambda row: f"{row['tokens_kept']:,.0f} of {row['tokens_full']:,.0f}",
    "compression": lambda row: number(row["compression"], ".1f"),
    "MB kept": lambda row: number(row["bytes_kept"] / 1e6, ".2f"),
    "max JS (nats)": lambda row: number(row["js_max"], ".2g"),
    "JS, sum of chunks": lambda row: number(row["js_sum"], ".2g"),
    "JS, total drift": lambda row: number(row["js_total"], ".2g"),
    "held-out JS": lambda row: number(row["js_heldout"], ".2g"),
    "agreement (%)": lambda row: number(100 * row["agreement"], ".1f"),
    "compress (s)": lambda row: number(row["seconds_compress"], ".1f"),
    "queries/s": lambda row: number(row["queries_per_second"], ".1f"),
}


# Columns for runs that measured something more, and what they measured.
_RARE = {"JS, sum of chunks": "js_total", "JS, total drift": "js_total"}
_DRIFT = (
    "JS, sum of chunks: each chunk against its own teacher, which saw the memory as it was pruned before; total drift: "
    "the same demonstrations at the end of the context, against the context without any pruning (nats)."
)


def _score_header(settings: pd.DataFrame) -> str:
    metrics, units = sorted(settings["metric"].unique()), sorted(settings["unit"].unique())
    return with_unit(metrics[0] if len(metrics) == 1 else "score", units[0] if len(units) == 1 else "")


def _names(row: dict, shown: Sequence[str]) -> list[Cell]:
    texts = [*(_named(row, name) for name in shown), row["label"], str(row["shots"]), number(row["delta"], "g")]
    return [Cell(text) for text in texts]


def score(row: dict) -> str:
    """Mean, ends of its interval, and (seeds × queries); a single seed is not counted. The unit is in the header."""
    queries = row["n"] / row["seeds"]
    count = f"{row['seeds']} × {queries:g}" if queries.is_integer() else f"{row['seeds']} seeds, {row['n']}"
    count = count if row["seeds"] > 1 else str(row["n"])
    return f"{interval_text({**row, 'unit': ''})} ({count})"


def markdown(table: Table) -> str:
    """The table in Markdown, its notes below."""
    rule = ["---" if column < table.names else "---:" for column in range(len(table.headers))]
    rows = [[f"**{_piped(cell.text)}**" if cell.bold else _piped(cell.text) for cell in row] for row in table.rows]
    lines = [f"| {' | '.join(row)} |" for row in [[_piped(header) for header in table.headers], rule, *rows]]
    return "\n".join([*lines, "", *table.notes]) + "\n"


def _piped(text: str) -> str:
    return text.replace("|", "\\|")


def latex(table: Table) -> str:
    """The table for booktabs, its notes as comments."""
    rows = [
        [rf"\textbf{{{escaped(cell.text)}}}" if cell.bold else escaped(cell.text) for cell in row] for row in table.rows
    ]
    lines = [
        *(f"% {note}" for note in [table.title, *table.notes]),
        rf"\begin{{tabular}}{{{'l' * table.names}{'r' * (len(table.headers) - table.names)}}}",
        r"\toprule",
        _latex_row([escaped(header) for header in table.headers]),
        r"\midrule",
        *map(_latex_row, rows),
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


def _latex_row(cells: Sequence[str]) -> str:
    return rf"{' & '.join(cells)} \\"


def escaped(text: str) -> str:
    """Text for LaTeX."""
    return "".join(_LATEX.get(character, character) for character in text)


def text_csv(table: Table) -> str:
    """The table's texts as CSV; the numbers in full precision are those of the data frame."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(table.headers)
    writer.writerows([cell.text for cell in row] for row in table.rows)
    return file.getvalue()
