"""What a setting scores and what context it needs, against shots or the limit: the paper's figures 1 and 3."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from analysis.figures.axes import draw_reference, finish, limit_scores, plain_log, score_bars, score_label, token_bars
from analysis.figures.style import LINES, STYLE, look, new_figure
from analysis.runs.seeds import bars, several
from analysis.runs.wording import SCALE, left_out

LABELS = {"shots": "demonstrations (shots)", "delta": "limit on the divergence, delta (nats)"}
_MOST_TICKS = 7
_AROUND = 1.3  # factor between the outermost values and the ends of a logarithmic axis
_WIDTH = 185.0  # points, the width of the axes
_CHARACTER = 4.2  # points, the width of one in a tick label
_APART = 1.06  # neighbouring series are drawn beside each other, so that no bar hides another


@dataclass(frozen=True)
class Series:
    """Settings of one method that differ along the x axis only; `number` counts the series of the method."""

    name: str
    method: str
    importance: str
    number: int
    rows: pd.DataFrame


def varying(cell: pd.DataFrame, axis: str) -> list[Series]:
    """The settings that differ from others in nothing but `axis` ("shots" or "delta")."""
    rest = "delta" if axis == "shots" else "shots"
    found: list[Series] = []
    for (label, other), rows in cell.dropna(subset=axis).groupby(["label", rest], dropna=False, sort=True):
        if several(rows[axis]):
            method, importance = rows["method"].iloc[0], rows["importance"].iloc[0]
            name = _series_name(label, rest, other) if several(cell.loc[cell["label"] == label, rest]) else label
            number = sum(one.method == method for one in found)
            found.append(Series(name, method, importance, number, rows.sort_values(axis)))
    return found


def _series_name(label: str, rest: str, value: float) -> str:
    return f"{label}, {value:g} shots" if rest == "shots" else f"{label}, {rest} {value:g}"


def references(cell: pd.DataFrame, drawn: list[Series]) -> pd.DataFrame:
    """Settings without a limit that keep everything or have nothing, of the shots that are drawn."""
    shots = {shots for series in drawn for shots in series.rows["shots"]}
    extreme = (cell["tokens_kept"] == cell["tokens_full"]) & cell["delta"].isna()
    return cell[extreme & cell["shots"].isin(shots)]


def undrawn(cell: pd.DataFrame, axis: str) -> pd.DataFrame:
    """The settings that `curves` leaves out."""
    drawn = varying(cell, axis)
    shown = pd.concat([series.rows for series in drawn]).index
    return cell.drop(shown.union(references(cell, drawn).index) if axis == "delta" else shown)


def curves(cell: pd.DataFrame, axis: str) -> Figure | None:
    """Score (top) and context length (bottom) against `axis`: the paper's figures 1 (shots) and 3 (delta).

    None if no setting varies along it.
    """
    drawn = varying(cell, axis)
    if not drawn:
        return None
    with rc_context(dict(STYLE)):
        figure, axes = new_figure(2, height=4.6)
        score, context = axes[:, 0]
        for place, series in enumerate(drawn):
            beside = series.rows[axis] * _APART ** (place - (len(drawn) - 1) / 2)
            _draw_series(score, context, series, beside)
        limit_scores(score, cell)
        if axis == "delta":
            _draw_references(score, context, references(cell, drawn))
        rows = pd.concat([series.rows for series in drawn])
        _finish_curves(figure, score, context, rows, axis, left=len(undrawn(cell, axis)))
    return figure


def _draw_series(score: Axes, context: Axes, series: Series, x: pd.Series) -> None:
    rows = series.rows
    style = {**look(series.method, series.importance).marks, "linestyle": LINES[series.number % len(LINES)]}
    _draw(score, x, SCALE * rows["value"], score_bars(rows), {**style, "label": series.name})
    seen = rows[rows["tokens_kept"] > 0]  # no context has no place on a logarithmic scale
    if not seen.empty:
        _draw(context, x[seen.index], seen["tokens_kept"], token_bars(seen), style)


def _draw(axes: Axes, x: pd.Series, y: pd.Series, ends: np.ndarray, style: dict[str, Any]) -> None:
    """A line with error bars. It doesn't join a limit of 0 to the others, which are infinitely far from it."""
    gap = [1] if x.iloc[0] == 0 and len(x) > 1 else []
    points = np.insert(np.array([x, y, *ends], dtype=float), gap, np.nan, axis=1)
    axes.errorbar(points[0], points[1], points[2:], **style)


def _draw_references(score: Axes, context: Axes, rows: pd.DataFrame) -> None:
    many = several(rows["shots"])
    for row in rows.to_dict("records"):
        colour = look(row["method"]).colour
        name = f"{row['label']}, {row['shots']} shots" if many else row["label"]
        shown = draw_reference(score, SCALE * row["value"], colour, name)
        if shown and pd.notna(row["low"]):
            score.axhspan(SCALE * row["low"], SCALE * row["high"], color=colour, alpha=0.1, linewidth=0)
        if row["tokens_kept"] > 0:
            context.axhline(row["tokens_kept"], color=colour, linestyle="--", linewidth=1)


def _finish_curves(figure: Figure, score: Axes, context: Axes, rows: pd.DataFrame, axis: str, *, left: int) -> None:
    score.set_ylabel(score_label(rows))
    context.set_ylabel("context tokens per KV head\n(mean over layers)")
    plain_log(context, "y")
    context.set_xlabel(LABELS[axis])
    _scale_x(context, sorted(set(rows[axis])))
    finish(figure, rows, [f"bars: {bars(rows)}", left_out(left)])


def _scale_x(axes: Axes, values: list[float]) -> None:
    """A logarithmic axis with a tick at every measured value; 0 is left of the smallest other one."""
    if values[0] > 0:
        axes.set_xscale("log")
        axes.set_xlim(values[0] / _AROUND, values[-1] * _AROUND)
    else:
        axes.set_xscale("symlog", linthresh=values[1], linscale=0.3)
        axes.set_xlim(-values[1] / 4, values[-1] * _AROUND)
    if len(values) <= _MOST_TICKS:
        axes.xaxis.set_major_locator(FixedLocator(values))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.tick_params("x", labelsize=7, rotation=45 if _crowded(axes, values) else 0)


def _crowded(axes: Axes, values: list[float]) -> bool:
    """Whether tick labels would touch each other."""
    ends = axes.xaxis.get_transform().transform(np.array(axes.get_xlim()))
    places = _WIDTH * (axes.xaxis.get_transform().transform(np.array(values, dtype=float)) - ends[0]) / np.ptp(ends)
    widths = np.array([_CHARACTER * len(f"{value:g}") + 1 for value in values])
    return bool((np.diff(places) < (widths[1:] + widths[:-1]) / 2).any())
