"""The figures of one cell (one dataset, model and metric): what a setting scores, and what context it needs."""

import math
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator

from analysis.figures.style import LINES, STYLE, look, new_figure
from analysis.runs.seeds import bars, several
from analysis.runs.wording import SCALE, with_unit

LABELS = {"shots": "demonstrations (shots)", "delta": "limit on the divergence, delta (nats)"}
_MOST_TICKS = 7
_FEW_DECADES = 1000  # a range below which ticks at 1, 2 and 5 have room
_LONG = 20  # characters of all tick labels together that do not fit beside each other
_AROUND = 1.3  # factor between the outermost values and the ends of a logarithmic axis
_NEAR = 1.02  # points whose lengths differ by less hide each other
_LEGEND = 52  # characters of a name in a legend of one column
_CAPTION = 72  # characters that fit below a figure of one column
_APART = 1.06  # neighbouring series are drawn beside each other, so that no bar hides another
_NARROWEST = 10.0  # the smallest range of scores that is shown, so that noise does not look like an effect


@dataclass(frozen=True)
class Series:
    """Settings of one method that differ along the x axis only; `number` counts the series of the method."""

    name: str
    method: str
    number: int
    rows: pd.DataFrame


def score_label(cell: pd.DataFrame) -> str:
    """Name of the score, with its unit, and its direction where that is not the usual one."""
    name = with_unit(cell["metric"].iloc[0], cell["unit"].iloc[0])
    return name if cell["higher_is_better"].all() else f"{name}, lower is better"


def varying(cell: pd.DataFrame, axis: str) -> list[Series]:
    """The settings that differ from others in nothing but `axis` ("shots" or "delta")."""
    rest = "delta" if axis == "shots" else "shots"
    found: list[Series] = []
    for (label, other), rows in cell.dropna(subset=axis).groupby(["label", rest], dropna=False, sort=True):
        if several(rows[axis]):
            method = rows["method"].iloc[0]
            name = _series_name(label, rest, other) if several(cell.loc[cell["label"] == label, rest]) else label
            found.append(Series(name, method, sum(one.method == method for one in found), rows.sort_values(axis)))
    return found


def _series_name(label: str, rest: str, value: float) -> str:
    return f"{label}, {value:g} shots" if rest == "shots" else f"{label}, {rest} {value:g}"


def references(cell: pd.DataFrame, drawn: list[Series]) -> pd.DataFrame:
    """Settings without a limit that keep everything or have nothing, of the shots that are drawn."""
    shots = {shots for series in drawn for shots in series.rows["shots"]}
    extreme = (cell["tokens_kept"] == cell["tokens_full"]) & cell["delta"].isna()
    return cell[extreme & cell["shots"].isin(shots)]


def curves(cell: pd.DataFrame, axis: str) -> Figure | None:
    """Score (top) and context length (bottom) against `axis`: the paper's figures 1 (shots) and 3 (delta).

    None if no setting varies along it.
    """
    drawn = varying(cell, axis)
    if not drawn:
        return None
    with rc_context(dict(STYLE)):
        figure, axes = new_figure(2, height=4.2)
        score, context = axes[:, 0]
        for place, series in enumerate(drawn):
            beside = series.rows[axis] * _APART ** (place - (len(drawn) - 1) / 2)
            _draw_series(score, context, series, beside)
        limit_scores(score, cell)
        if axis == "delta":
            _draw_references(score, context, references(cell, drawn))
        _finish_curves(figure, score, context, pd.concat([series.rows for series in drawn]), axis)
    return figure


def _draw_series(score: Axes, context: Axes, series: Series, x: pd.Series) -> None:
    rows, style = series.rows, _line(series)
    score.errorbar(x, SCALE * rows["value"], _lengths(SCALE * rows["interval"]), label=series.name, **style)
    seen = rows[rows["tokens_kept"] > 0]  # no context has no place on a logarithmic scale
    if not seen.empty:
        context.errorbar(x[seen.index], seen["tokens_kept"], _lengths(seen["tokens_kept_t95"]), **style)


def _line(series: Series) -> dict[str, Any]:
    of = look(series.method)
    face = "white" if series.number % 2 else of.colour
    line = LINES[series.number % len(LINES)]
    return {"color": of.colour, "marker": of.marker, "markerfacecolor": face, "linestyle": line}


def _lengths(interval: pd.Series) -> pd.Series:
    """Lengths of error bars: none where the interval is unknown (a caption says so)."""
    return interval.fillna(0.0)


def _draw_references(score: Axes, context: Axes, rows: pd.DataFrame) -> None:
    many = several(rows["shots"])
    for row in rows.to_dict("records"):
        colour, value, interval = look(row["method"]).colour, SCALE * row["value"], SCALE * row["interval"]
        name = f"{row['label']}, {row['shots']} shots" if many else row["label"]
        shown = draw_reference(score, value, colour, name)
        if shown and interval > 0:
            score.axhspan(value - interval, value + interval, color=colour, alpha=0.1, linewidth=0)
        if row["tokens_kept"] > 0:
            context.axhline(row["tokens_kept"], color=colour, linestyle="--", linewidth=1)


def _finish_curves(figure: Figure, score: Axes, context: Axes, rows: pd.DataFrame, axis: str) -> None:
    score.set_ylabel(score_label(rows))
    context.set_ylabel("context tokens per KV head\n(mean over layers)")
    plain_log(context, "y")
    context.set_xlabel(LABELS[axis])
    _scale_x(context, sorted(set(rows[axis])))
    finish(figure, rows, f"bars: {bars(rows)}")


def _scale_x(axes: Axes, values: list[float]) -> None:
    """A logarithmic axis with a tick at every measured value; 0 is left of the smallest other one."""
    if values[0] > 0:
        axes.set_xscale("log")
        axes.set_xlim(values[0] / _AROUND, values[-1] * _AROUND)
    else:
        axes.set_xscale("symlog", linthresh=values[1], linscale=0.5)
        axes.set_xlim(-values[1] / 4, values[-1] * _AROUND)
    if len(values) <= _MOST_TICKS:
        axes.xaxis.set_major_locator(FixedLocator(values))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        if len("".join(f"{value:g}" for value in values)) > _LONG:
            axes.tick_params("x", rotation=45)


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
    if rows["unit"].iloc[0] != "%":
        return
    low, high = axes.get_xlim() if axis == "x" else axes.get_ylim()
    wider = max(0.0, _NARROWEST - (high - low)) / 2
    axes.set(**{f"{axis}lim": (max(low - wider, -2), min(high + wider, 102))})


def finish(figure: Figure, rows: pd.DataFrame, below: str, *, legend: bool = True) -> None:
    """Legend above; below, where the numbers come from and a note such as what the bars mean."""
    if legend:
        handles, names = _legend(figure)
        columns = 2 if max(map(len, names)) < 30 else 1
        names = [textwrap.fill(name, _LEGEND) for name in names]
        figure.legend(handles, names, loc="outside upper center", ncols=columns)
    lines = [f"{rows['dataset'].iloc[0]}, model {rows['model'].iloc[0]}", below]
    text = "\n".join(textwrap.fill(line, _CAPTION) for line in lines if line)
    figure.supxlabel(text, fontsize=6, color="#555555")


def _legend(figure: Figure) -> tuple[list[Any], list[str]]:
    """Every name once, in alphabetical order, which is the same in every figure; markers without their error bars."""
    entries: dict[str, Any] = {}
    for axes in figure.axes:
        for handle, name in zip(*axes.get_legend_handles_labels(), strict=True):
            entries.setdefault(name, handle.lines[0] if isinstance(handle, ErrorbarContainer) else handle)
    names = sorted(entries)
    return [entries[name] for name in names], names


def pareto(cell: pd.DataFrame) -> Figure | None:
    """Score against kept context tokens, every setting a point; None if no setting has a context."""
    points = cell[cell["tokens_kept"] > 0]
    if points.empty:
        return None
    with rc_context(dict(STYLE)):
        figure, axes = new_figure(1, height=3.0)
        _draw_points(axes[0, 0], points.sort_values(["method", "tokens_kept"]))
        best = front(points)
        axes[0, 0].step(
            best["tokens_kept"], SCALE * best["value"], where="post", color="#999999", linewidth=1, zorder=1,
            label="best for its length",
        )  # fmt: skip
        axes[0, 0].set(ylabel=score_label(cell), xlabel="context tokens per KV head (mean over layers)")
        plain_log(axes[0, 0], "x")
        limit_scores(axes[0, 0], cell)
        _draw_without_context(axes[0, 0], cell[cell["tokens_kept"] == 0])
        finish(figure, cell, f"points of a method differ in shots, limit or options; bars: {bars(cell)}")
    return figure


def _draw_points(axes: Axes, points: pd.DataFrame) -> None:
    x = beside(points)
    for method, rows in points.groupby("method", sort=True):
        of = look(method)
        axes.errorbar(
            x[rows.index], SCALE * rows["value"], _lengths(SCALE * rows["interval"]),
            _lengths(rows["tokens_kept_t95"]), color=of.colour, marker=of.marker, linestyle="none", elinewidth=0.8,
            label=method,
        )  # fmt: skip


def beside(points: pd.DataFrame) -> pd.Series:
    """Where points are drawn: a little right of their length, for every method before theirs that has one so near."""

    def before(point: dict) -> int:
        near = (points["tokens_kept"] / point["tokens_kept"]).between(1 / _NEAR, _NEAR)
        return points.loc[near & (points["method"] < point["method"]), "method"].nunique()

    steps = pd.Series([before(point) for point in points.to_dict("records")], index=points.index)
    return points["tokens_kept"] * _APART**steps


def _draw_without_context(axes: Axes, rows: pd.DataFrame) -> None:
    """Methods without a context, which have no place on a logarithmic axis, as lines at their best score."""
    for method, group in rows.groupby("method", sort=True):
        best = group.loc[next(_ranked(group))]
        draw_reference(axes, SCALE * best["value"], look(method).colour, f"{method}, no context")


def _ranked(rows: pd.DataFrame) -> Iterator[int]:
    """Indices from the best score to the worst; the shorter context is first among equals."""
    down = bool(rows["higher_is_better"].all())
    return iter(rows.sort_values(["value", "tokens_kept"], ascending=[not down, True]).index)


def front(points: pd.DataFrame) -> pd.DataFrame:
    """The settings that no other one beats with as short a context, from the shortest on."""
    best, kept = math.inf, []
    for index in _ranked(points):
        if points.loc[index, "tokens_kept"] < best:
            best = points.loc[index, "tokens_kept"]
            kept.append(index)
    return points.loc[kept].sort_values("tokens_kept")
