"""The effect of options: settings of a method that differ in options besides shots and limit (the ablations)."""

import re
import textwrap
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from analysis.figures.axes import finish, limit_scores, score_bars, score_label, token_bars
from analysis.figures.style import STYLE, look, new_figure
from analysis.runs.seeds import bars
from analysis.runs.wording import SCALE, left_out, with_delta

_HEADS, _ROW = 1.3, 0.42  # inches besides the settings, and of a setting with its name above it
_LINE = 64  # characters of a name
_NUMBER = re.compile(r"\d+(?:\.\d+)?")


def alternatives(cell: pd.DataFrame) -> pd.DataFrame:
    """Of every method the largest group of settings with equal shots and limit, in the order of their options.

    Methods without alternatives are left out; empty if none has some.
    """
    found = [group for _, of in cell.groupby("method", sort=True) if len(group := _largest(of)) > 1]
    return pd.concat(found) if found else cell.iloc[:0]


def _largest(cell: pd.DataFrame) -> pd.DataFrame:
    most = max((group for _, group in cell.groupby(["shots", "delta"], dropna=False, sort=True)), key=len)
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
        figure, axes = new_figure(1, 2, height=_HEADS + _ROW * len(rows))
        score, context = axes[0]
        _draw(score, SCALE * rows["value"], score_bars(rows), rows)
        _draw(context, rows["tokens_kept"], token_bars(rows), rows)
        _finish(figure, score, context, rows, len(cell) - len(rows))
    return figure


def _draw(axes: Axes, values: pd.Series, ends: np.ndarray, rows: pd.DataFrame) -> None:
    for place, row in enumerate(rows.to_dict("records")):
        of = look(row["method"], row["importance"])
        reach = [[ends[0][place]], [ends[1][place]]]
        axes.errorbar([values.iloc[place]], [place], xerr=reach, linestyle="none", **of.marks)


def _finish(figure: Figure, score: Axes, context: Axes, rows: pd.DataFrame, others: int) -> None:
    for axes in (score, context):
        axes.set_yticks([])
        axes.set_ylim(len(rows) - 0.6, -0.8)  # the first on top, and room for its name
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    score.set(zorder=1, facecolor="none")  # long names go on over the other axes
    for place, label in enumerate(rows["label"]):
        # Above the points, because beside them names leave no room for the axes on a narrow page.
        name = textwrap.shorten(label, _LINE, placeholder=" ...")
        above = score.text(0.02, place - 0.3, name, transform=score.get_yaxis_transform(), va="bottom")
        above.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 0.5})
        above.set_in_layout(False)  # else its column would be made as wide as the name
    score.set_xlabel(score_label(rows))
    limit_scores(score, rows, axis="x")
    context.set_xlabel("context tokens per KV head")
    context.set_xlim(0, None)
    finish(figure, rows, [places(rows), f"bars: {bars(rows)}", left_out(others)], legend=False)


def places(rows: pd.DataFrame) -> str:
    """The shots and limits at which every method's options are compared."""
    found = rows.drop_duplicates(["shots", "delta"]).to_dict("records")
    return " and ".join(dict.fromkeys(f"{row['shots']} shots{with_delta(row['delta'])}" for row in found))
