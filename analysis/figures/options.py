"""The effect of an option: settings of one method that differ in options besides shots and limit (the ablations)."""

import re
from collections.abc import Sequence

import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from analysis.figures.curves import finish, limit_scores, score_label
from analysis.figures.style import STYLE, look, new_figure
from analysis.runs.seeds import bars
from analysis.runs.wording import SCALE, with_delta

_WIDTH = 5.4  # inches; the names of the options need room
_ROW = 0.24  # inches per setting
_NUMBER = re.compile(r"\d+(?:\.\d+)?")


def alternatives(cell: pd.DataFrame) -> pd.DataFrame:
    """The largest group of settings of one method with equal shots and limit, in the order of their options.

    Empty if no group has more than one.
    """
    groups = [group for _, group in cell.groupby(["method", "shots", "delta"], dropna=False, sort=True)]
    most = max(groups, key=len)
    if len(most) < 2:
        return most.iloc[:0]
    return most.iloc[sorted(range(len(most)), key=lambda place: _natural(most["label"].iloc[place]))]


def _natural(label: str) -> tuple[Sequence[str], Sequence[float]]:
    """Sorts names that differ only in their numbers by those."""
    return _NUMBER.split(label), [float(number) for number in _NUMBER.findall(label)]


def options(cell: pd.DataFrame) -> Figure | None:
    """Score (left) and context length (right) of settings that differ in options; None if there are none."""
    rows = alternatives(cell)
    if rows.empty:
        return None
    with rc_context(dict(STYLE)):
        figure, axes = new_figure(1, 2, width=_WIDTH, height=1.1 + _ROW * len(rows))
        score, context = axes[0]
        _draw(score, SCALE * rows["value"], SCALE * rows["interval"], rows)
        _draw(context, rows["tokens_kept"], rows["tokens_kept_t95"], rows)
        _finish(figure, score, context, rows)
    return figure


def _draw(axes: Axes, values: pd.Series, intervals: pd.Series, rows: pd.DataFrame) -> None:
    of = look(rows["method"].iloc[0])
    axes.errorbar(
        values, range(len(rows)), xerr=intervals.fillna(0.0), color=of.colour, marker=of.marker, linestyle="none"
    )


def _finish(figure: Figure, score: Axes, context: Axes, rows: pd.DataFrame) -> None:
    score.set_yticks(range(len(rows)), [shown(label) for label in rows["label"]])
    score.set_ylim(len(rows) - 0.5, -0.5)  # the first on top
    score.set_xlabel(score_label(rows))
    limit_scores(score, rows, axis="x")
    context.set_xlabel("context tokens per KV head")
    context.set_xlim(0, None)
    context.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    for axes in (score, context):
        axes.xaxis.set_major_locator(MaxNLocator(4))
    place = f"{rows['method'].iloc[0]}, {rows['shots'].iloc[0]} shots{with_delta(rows['delta'].iloc[0])}"
    finish(figure, rows, f"{place}; bars: {bars(rows)}", legend=False)


def shown(label: str) -> str:
    """The options of a label, without its method."""
    return label.partition(" ")[2] or label
