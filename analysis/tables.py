"""Tables of runs."""

import pandas as pd

SORTED_BY = ["dataset", "method", "delta", "shots", "seed"]


def runs_table(runs: pd.DataFrame) -> str:
    """One Markdown row per run: accuracy with its standard error, and what the context costs."""
    header = "| dataset | method | shots | delta | accuracy % | n | tokens kept of full | compression | max JS |"
    lines = [header, "|---|---|---:|---:|---:|---:|---:|---:|---:|"]
    lines += [_line(row) for row in runs.sort_values(SORTED_BY).to_dict("records")]
    return "\n".join(lines)


def _line(row: dict) -> str:
    cells = [
        row["dataset"],
        row["method"],
        str(row["shots"]),
        _number(row["delta"], "g"),
        f"{100 * row['value']:.1f} ± {_number(None if row['stderr'] is None else 100 * row['stderr'], '.1f')}",
        str(row["n"]),
        f"{row['tokens_kept']:.0f} of {row['tokens_full']}",
        _number(row["compression"], ".1f"),
        _number(row["js_max"], ".4f"),
    ]
    return f"| {' | '.join(cells)} |"


def _number(value: float | None, form: str) -> str:
    return "–" if value is None or pd.isna(value) else format(value, form)
