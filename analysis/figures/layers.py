"""What layers keep: the paper's figures 4 (length and divergence per layer) and 5 (kinds of tokens per layer)."""

import textwrap

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from analysis.figures.curves import finish
from analysis.figures.style import COLUMN, PRUNED, STYLE, look, new_figure
from analysis.runs.layers import KINDS, layer_rows, per_layer, totals
from analysis.runs.seeds import OVER_SEEDS, t_interval

_APART = 0.12  # layers; settings are drawn beside each other, so that equal ones can be seen
_SMALLEST = 1e-6  # nats; smaller divergences are as good as 0
_DASH = 5.0  # length of a dash and of a gap, in line widths
_TITLE = 20  # characters above a column
_NARROW = 1.5  # inches of a column of figure 5 where there are several


def budgets(layers: pd.DataFrame, chosen: pd.DataFrame) -> Figure | None:
    """Kept tokens (top) and divergence (bottom) per layer of the chosen settings; None if their layers are unknown.

    The divergence is that of held-out queries where all runs measured it, else that of the chunks' teachers, which only
    a method that decides layer by layer knows for every layer.
    """
    rows = per_layer(layer_rows(layers, chosen))
    if rows.empty:
        return None
    with rc_context(dict(STYLE)):
        figure, axes = new_figure(2, height=4.2)
        kept, divergence = axes[:, 0]
        heldout = bool(rows["js_heldout"].notna().all())  # then all methods can be compared by it
        for place, setting in enumerate(chosen.to_dict("records")):
            beside = _APART * (place - (len(chosen) - 1) / 2)
            mine = rows[rows["label"] == setting["label"]].assign(x=lambda table, by=beside: table["layer"] + by)
            _draw_mean(kept, mine, "tokens_kept", setting)
            if heldout:
                _draw_mean(divergence, mine, "js_heldout", setting)
            else:
                _draw_divergence(divergence, mine, setting, place)
        _finish_budgets(figure, kept, divergence, chosen, heldout=heldout)
    return figure


def _draw_mean(axes: Axes, rows: pd.DataFrame, column: str, setting: dict) -> None:
    """Mean over seeds per layer, with its t-interval where there are several."""
    by_layer = rows.groupby("x")[column]
    of = look(setting["method"])
    axes.errorbar(
        by_layer.mean().index, by_layer.mean(), by_layer.apply(t_interval).fillna(0.0),
        color=of.colour, marker=of.marker, label=f"{setting['label']} ({setting['tokens_kept']:,.0f})",
    )  # fmt: skip


def _draw_divergence(axes: Axes, rows: pd.DataFrame, setting: dict, place: int) -> None:
    """Per layer where the method decided layer by layer, else one line: the whole memory's, in its worst chunk."""
    if rows["js"].notna().any():
        _draw_mean(axes, rows, "js", setting)
        axes.axhline(setting["delta"], color="#777777", linestyle=":", linewidth=1, label="limit delta")
    else:
        dashes = (_DASH * place, (_DASH, _DASH))  # neighbours fill each other's gaps, so that equal ones can be seen
        axes.axhline(setting["js_max"], color=look(setting["method"]).colour, linestyle=dashes, linewidth=1)


def _finish_budgets(figure: Figure, kept: Axes, divergence: Axes, chosen: pd.DataFrame, *, heldout: bool) -> None:
    kept.set(ylabel="context tokens kept\nper KV head", ylim=(0, None))
    kept.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    divergence.set_ylabel("JS on held-out queries (nats)" if heldout else "JS from the teacher (nats)")
    _scale_divergence(divergence)
    divergence.set_xlabel("layer (0 is the lowest)")
    divergence.xaxis.set_major_locator(MaxNLocator(integer=True))
    finish(figure, chosen, _explained(chosen, heldout=heldout))


def _explained(chosen: pd.DataFrame, *, heldout: bool) -> str:
    bars = f"; bars: {OVER_SEEDS}" if chosen["seeds"].max() > 1 else ""
    teacher = "line: JS after each layer's decision; dashed: JS of the whole memory in its worst chunk"
    lines = "JS with the layers from that one up pruned" if heldout else teacher
    return f"{_place(chosen)}; in brackets: mean over layers; {lines}{bars}"


def _scale_divergence(axes: Axes) -> None:
    """Methods are orders of magnitude apart: logarithmic, and linear where a divergence is as good as 0."""
    axes.set_yscale("symlog", linthresh=_SMALLEST)
    axes.set_ylim(0, 2 * axes.get_ylim()[1])


def kinds(layers: pd.DataFrame, chosen: pd.DataFrame) -> Figure | None:
    """Image, question and answer tokens (rows) that each layer keeps, and prunes, of the chosen settings (columns)."""
    rows = per_layer(layer_rows(layers, chosen))
    if rows.empty:
        return None
    rows = rows.merge(totals(layers), on=["dataset", "model", "demonstrations_id"], how="left")
    settings = chosen.to_dict("records")
    with rc_context(dict(STYLE)):
        width = max(COLUMN, 0.5 + _NARROW * len(settings))
        figure, axes = new_figure(len(KINDS), len(settings), width=width, height=4.4)
        for column, setting in enumerate(settings):
            mine = rows[rows["label"] == setting["label"]].groupby("layer").mean(numeric_only=True)
            for row, kind in enumerate(KINDS):
                _draw_kind(axes[row, column], mine, kind, look(setting["method"]).colour)
            axes[0, column].set_title(textwrap.fill(setting["label"], _TITLE), fontsize=7)
            axes[-1, column].set_xlabel("layer (0 is the lowest)")
        _finish_kinds(figure, axes, chosen)
    return figure


def _draw_kind(axes: Axes, rows: pd.DataFrame, kind: str, colour: str) -> None:
    total, kept = rows[f"{kind}_total"], rows[f"{kind}_kept"]
    if total.notna().all():
        axes.bar(rows.index, total, color=PRUNED, width=0.8, label="pruned")
    axes.bar(rows.index, kept, color=colour, width=0.8)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _finish_kinds(figure: Figure, axes: np.ndarray, chosen: pd.DataFrame) -> None:
    for row, kind in enumerate(KINDS):
        axes[row, 0].set_ylabel(f"{kind} tokens\nper KV head")
        axes[row, 0].set_ylim(0, max(1.0, axes[row, 0].get_ylim()[1]))
        axes[row, 0].yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    known = any(axis.get_legend_handles_labels()[1] for axis in figure.axes)
    note = "grey: pruned" if known else "pruned tokens are not known: no run on these demonstrations kept everything"
    finish(figure, chosen, f"{_place(chosen)}; {note}; means over seeds", legend=False)


def _place(chosen: pd.DataFrame) -> str:
    """The shots and limits of the chosen settings."""
    limits = ", ".join(f"{limit:g}" for limit in sorted(chosen["delta"].dropna().unique()))
    return f"{chosen['shots'].iloc[0]} shots" + (f", delta {limits}" if limits else "")
