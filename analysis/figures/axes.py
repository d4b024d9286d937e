"""What the figures' axes have in common: labels, logarithmic scales, error bars, reference lines, legends and notes."""

import textwrap
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from analysis.runs.intervals import SHARE
from analysis.runs.wording import SCALE, with_unit

_FEW_DECADES = 1000  # a range below which ticks at 1, 2 and 5 have room
_LEGEND = 46  # characters of a name in a legend of one column
_SHORT = 22  # and in one of two columns
_CAPTION = 64  # characters that fit below a figure of one column
_NARROWEST = 10.0  # the smallest range of scores that is shown, so that noise does not look like an effect


def score_label(cell: pd.DataFrame) -> str:
    """Name of the score, with its unit, and its direction where that is not the usual one."""
    name = with_unit(cell["metric"].iloc[0], cell["unit"].iloc[0])
    return name if cell["higher_is_better"].all() else f"{name}, lower is better"


def score_bars(rows: pd.DataFrame) -> np.ndarray:
    """(2, n) lengths of the scores' error bars, down and up; none where the interval is unknown (a caption says so)."""
    return SCALE * lengths(rows["value"], rows["low"], rows["high"])


def token_bars(rows: pd.DataFrame) -> np.ndarray:
    """(2, n) lengths of the context lengths' error bars; they end above 0, as logarithmic axes need."""
    return lengths(rows["tokens_kept"], rows["tokens_low"], rows["tokens_high"])


def lengths(values: pd.Series, low: pd.Series, high: pd.Series) -> np.ndarray:
    """(2, n) distances to both ends, 0 where they are unknown."""
    # The mean of few seeds can be outside of an interval that was made for their logarithms.
    return np.array([(values - low).clip(0).fillna(0.0), (high - values).clip(0).fillna(0.0)])


def plain_log(axes: Axes, axis: str) -> None:
    """A logarithmic axis ("x" or "y") whose ticks are ordinary numbers."""
    axes.set(**{f"{axis}scale": "log"})
    of = axes.xaxis if axis == "x" else axes.yaxis
    low, high = axes.get_xlim() if axis == "x" else axes.get_ylim()
    of.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low < _FEW_DECADES else (1,)))
    of.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    of.set_minor_formatter(NullFormatter())


def draw_reference(axes: Axes, value: float, colour: str, name: str) -> bool:
    """A dashed line at a score, unless it is so far from all points that showing it would press them together.

    The range of the axis must have been set. A line that is left out is in the legend, with its value.
    """
    low, high = axes.get_ylim()
    shown = 2 * low - high <= value <= 2 * high - low
    if shown:
        axes.set_ylim(min(low, value - 2), max(high, value + 2))
        axes.axhline(value, color=colour, linestyle="--", linewidth=1, label=name)
    else:
        arrow = "↓" if value < low else "↑"
        axes.plot([], [], color=colour, linestyle="--", linewidth=1, label=f"{name}: {value:.1f} {arrow}")
    return shown


def limit_scores(axes: Axes, rows: pd.DataFrame, axis: str = "y") -> None:
    """Show no less than a range of ten points, and nothing outside of what a share can be."""
    if rows["unit"].iloc[0] != SHARE:
        return
    low, high = axes.get_xlim() if axis == "x" else axes.get_ylim()
    wider = max(0.0, _NARROWEST - (high - low)) / 2
    axes.set(**{f"{axis}lim": (max(low - wider, -2), min(high + wider, 102))})


def finish(figure: Figure, rows: pd.DataFrame, notes: Iterable[str], *, legend: bool = True) -> None:
    """Legend above; below, where the numbers come from and notes such as what the bars mean."""
    if legend:
        add_legend(figure, named(figure))
    first = rows.iloc[0].to_dict()
    source = f"{first['dataset']}, {first['queries']:,} queries, model {first['model']}"
    text = "; ".join([source, *filter(None, notes)])
    figure.supxlabel(textwrap.fill(text, _CAPTION), fontsize=7, color="#444444", ha="left", x=0.02)


def add_legend(figure: Figure, entries: Mapping[str, Any]) -> None:
    """The legend above the figure, in two columns if the names are short."""
    narrow = max(map(len, entries)) > _SHORT
    texts = [textwrap.fill(name, _LEGEND if narrow else _SHORT) for name in entries]
    figure.legend(list(entries.values()), texts, loc="outside upper left", ncols=1 if narrow else 2)


def named(figure: Figure) -> dict[str, Any]:
    """Every name once, in alphabetical order, which is the same in every figure; markers without their error bars."""
    entries: dict[str, Any] = {}
    for axes in figure.axes:
        for handle, name in zip(*axes.get_legend_handles_labels(), strict=True):
            entries.setdefault(name, handle.lines[0] if isinstance(handle, ErrorbarContainer) else handle)
    return dict(sorted(entries.items()))
