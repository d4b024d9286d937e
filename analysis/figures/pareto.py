"""Score against context length, every setting a point."""

import math
from collections.abc import Iterator

import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures.axes import (
    draw_reference,
    finish,
    limit_scores,
    plain_log,
    score_bars,
    score_label,
    token_bars,
)
from analysis.figures.style import STYLE, look, new_figure
from analysis.runs.naming import VARIANT, variant_names
from analysis.runs.seeds import bars
from analysis.runs.wording import SCALE

_NEAR = 1.02  # points whose lengths differ by less hide each other
_APART = 0.015  # and are drawn beside each other: this part of the axis
_LEAST = 1.5  # the smallest factor between the ends of the axis that this is taken of
_SIDE = "those of equal length are drawn side by side"
_FRONT = "best for its length"


def pareto(cell: pd.DataFrame) -> Figure | None:
    """Score against kept context tokens, every setting a point; None if no setting has a context."""
    points = cell[cell["tokens_kept"] > 0]
    if points.empty:
        return None
    with rc_context(dict(STYLE)):
        figure, axes = new_figure(1, height=3.6)
        score = axes[0, 0]
        _draw_points(score, points.sort_values([*VARIANT, "tokens_kept"]))
        best = front(points)
        score.step(
            best["tokens_kept"], SCALE * best["value"], where="post", color="#999999", linewidth=1, zorder=1,
            label=_FRONT,
        )  # fmt: skip
        score.set(ylabel=score_label(cell), xlabel="context tokens per KV head (mean over layers)")
        plain_log(score, "x")
        limit_scores(score, cell)
        notes = ["points of one name differ in shots, limit or options", _SIDE, f"bars: {bars(cell)}"]
        _draw_without_context(score, cell[cell["tokens_kept"] == 0])
        finish(figure, cell, notes)
    return figure


def _draw_points(axes: Axes, points: pd.DataFrame) -> None:
    x, names = beside(points), variant_names(points)
    for (method, importance), rows in points.groupby(VARIANT, sort=True):
        axes.errorbar(
            x[rows.index], SCALE * rows["value"], score_bars(rows), token_bars(rows), linestyle="none",
            elinewidth=0.8, label=names[method, importance], **look(method, importance).marks,
        )  # fmt: skip


def beside(points: pd.DataFrame) -> pd.Series:
    """Where points are drawn: a little right of their length, for every variant before theirs that has one so near.

    The steps are as small as the range of the lengths allows, so that no point seems to be of another length.
    """
    variants = pd.Series(list(zip(*(points[name] for name in VARIANT), strict=True)), index=points.index)

    def before(index: int) -> int:
        near = (points["tokens_kept"] / points.loc[index, "tokens_kept"]).between(1 / _NEAR, _NEAR)
        return len({variant for variant in variants[near] if variant < variants[index]})

    steps = pd.Series([before(index) for index in points.index], index=points.index)
    spread = points["tokens_kept"].max() / points["tokens_kept"].min()
    return points["tokens_kept"] * max(spread, _LEAST) ** (_APART * steps)


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
