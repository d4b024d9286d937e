"""What layers keep: the paper's figures 4 (length and divergence per layer) and 5 (kinds of tokens per layer)."""

import textwrap
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator

from analysis.figures.axes import add_legend, finish, lengths
from analysis.figures.style import KEPT, PRUNED, STYLE, look, new_figure
from analysis.runs.intervals import on_a_log_axis, over_seeds
from analysis.runs.layers import KINDS, layer_rows, per_layer, totals
from analysis.runs.seeds import OVER_SEEDS
from analysis.runs.wording import left_out

_APART = 0.12  # layers; settings are drawn beside each other, so that equal ones can be seen
_SMALLEST = 1e-6  # nats; smaller divergences are as good as 0 and are drawn there
_DASH = 5.0  # length of a dash and of a gap, in line widths
_TOKENS = "tokens per KV head of every kind, means over seeds; layer 0 is the lowest"
_NAME = 64  # characters above a row of figure 5
_HEADS, _ROW = 1.2, 0.85  # inches of figure 5 besides its rows, and of a row


def budgets(layers: pd.DataFrame, chosen: pd.DataFrame, others: int = 0) -> Figure | None:
    """Kept tokens (top) and divergence (bottom) per layer of the chosen settings; None if their layers are unknown.

    The divergence is that of held-out queries where all runs measured it, else that of the chunks' teachers, which only
    a method that decides layer by layer knows for every layer. others: how many settings are not shown, which is said.
    """
    rows = per_layer(layer_rows(layers, chosen))
    if rows.empty:
        return None
    with rc_context(dict(STYLE)):
        figure, axes = new_figure(2, height=4.4 + 0.14 * len(chosen))
        kept, divergence = axes[:, 0]
        heldout = bool(rows["js_heldout"].notna().all())  # then all methods can be compared by it
        for place, setting in enumerate(chosen.to_dict("records")):
            beside = _APART * (place - (len(chosen) - 1) / 2)
            mine = rows[rows["label"] == setting["label"]].assign(x=lambda table, by=beside: table["layer"] + by)
            _draw_tokens(kept, mine, setting)
            if heldout:
                _draw_by_layer(divergence, mine, "js_heldout", setting)
            else:
                _draw_divergence(divergence, mine, setting, place)
        _finish_budgets(figure, kept, divergence, chosen, heldout=heldout)
        finish(figure, chosen, [*_explained(chosen, heldout=heldout), left_out(others)])
    return figure


def _draw_tokens(axes: Axes, rows: pd.DataFrame, setting: dict) -> None:
    """Mean over seeds per layer, with its t-interval where there are several."""
    by_layer = rows.groupby("x")["tokens_kept"]
    means, ends = by_layer.mean(), by_layer.apply(lambda of: over_seeds(of).ends)
    low, high = pd.Series(ends.str[0]), pd.Series(ends.str[1])
    name = f"{setting['label']} ({setting['tokens_kept']:,.0f})"
    axes.errorbar(means.index, means, lengths(means, low.clip(0), high), label=name, **_style(setting))


def _draw_by_layer(axes: Axes, rows: pd.DataFrame, column: str, setting: dict) -> None:
    """Geometric mean over seeds per layer, with the t-interval of the logarithms: its bars end above 0."""
    by_layer = rows.assign(js=rows[column].clip(_SMALLEST)).groupby("x")["js"]
    means = np.exp(by_layer.apply(lambda of: np.log(of).mean()))
    ends = by_layer.apply(lambda of: on_a_log_axis(of).ends)
    bars = lengths(means, pd.Series(ends.str[0]).clip(_SMALLEST), pd.Series(ends.str[1]))
    axes.errorbar(means.index, means, bars, **_style(setting))


def _style(setting: dict) -> dict[str, Any]:
    of = look(setting["method"], setting["importance"])
    return {**of.marks, "linestyle": "-" if of.fill == "full" else "--"}


def _draw_divergence(axes: Axes, rows: pd.DataFrame, setting: dict, place: int) -> None:
    """Per layer where the method decided layer by layer, else one line: the whole memory's, in its worst chunk."""
    if rows["js"].notna().any():
        _draw_by_layer(axes, rows, "js", setting)
        if pd.notna(setting["delta"]):
            axes.axhline(setting["delta"], color="#777777", linestyle=":", linewidth=1, label="limit delta")
    else:
        dashes = (_DASH * place, (_DASH, _DASH))  # neighbours fill each other's gaps, so that equal ones can be seen
        height = max(setting["js_max"], _SMALLEST)
        axes.axhline(height, color=look(setting["method"]).colour, linestyle=dashes, linewidth=1)


def _finish_budgets(figure: Figure, kept: Axes, divergence: Axes, chosen: pd.DataFrame, *, heldout: bool) -> None:
    kept.set(ylabel="context tokens kept\nper KV head", ylim=(0, None))
    kept.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    divergence.set_ylabel("JS on held-out queries\n(nats)" if heldout else "JS from the teacher\n(nats)")
    divergence.set_yscale("log")
    low, high = divergence.get_ylim()
    divergence.set_ylim(max(low, _SMALLEST / 2), 2 * high)
    divergence.set_xlabel("layer (0 is the lowest)")
    divergence.xaxis.set_major_locator(MaxNLocator(integer=True))


def _explained(chosen: pd.DataFrame, *, heldout: bool) -> list[str]:
    teacher = "line: JS after each layer's decision; dashed: JS of the whole memory in its worst chunk"
    return [
        _place(chosen),
        "in brackets: mean over layers",
        "JS with the layers from that one up pruned" if heldout else teacher,
        f"JS below {_SMALLEST:g} is drawn there",
        f"JS: geometric mean; bars: {OVER_SEEDS}, of the logarithm of JS" if chosen["seeds"].max() > 1 else "",
    ]


def kinds(layers: pd.DataFrame, chosen: pd.DataFrame, others: int = 0) -> Figure | None:
    """Image, question and answer tokens (columns) that each layer keeps, and prunes, of the chosen settings (rows).

    others: how many settings are not shown, which is said.
    """
    rows = per_layer(layer_rows(layers, chosen))
    if rows.empty:
        return None
    rows = rows.merge(totals(layers), on=["dataset", "model", "demonstrations_id"], how="left")
    settings = chosen.to_dict("records")
    with rc_context(dict(STYLE)):
        figure, axes = new_figure(len(settings), len(KINDS), height=_HEADS + _ROW * len(settings), sharey="col")
        for row, setting in enumerate(settings):
            mine = rows[rows["label"] == setting["label"]].groupby("layer").mean(numeric_only=True)
            for column, kind in enumerate(KINDS):
                _draw_kind(axes[row, column], mine, kind, setting)
            # Above its row, across the columns: beside it names leave no room for them on a narrow page.
            name = textwrap.shorten(setting["label"], _NAME, placeholder=" ...")
            above = axes[row, 0].annotate(name, (0, 1.06), xycoords="axes fraction", va="bottom")
            above.set_in_layout(False)  # else its column would be made as wide as the name
            axes[row, 0].set_title(" ")  # keeps its place
        _finish_kinds(figure, axes, chosen, others)
    return figure


def _draw_kind(axes: Axes, rows: pd.DataFrame, kind: str, setting: dict) -> None:
    total, kept = rows[f"{kind}_total"], rows[f"{kind}_kept"]
    of = look(setting["method"], setting["importance"])
    if total.notna().all():
        axes.bar(rows.index, total, color=PRUNED, width=0.85)
    axes.bar(rows.index, kept, color=of.colour, width=0.85)
    axes.plot(rows.index, kept, linestyle="none", markersize=2, **of.marks)  # else a bar of 0 would be invisible
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))


def _finish_kinds(figure: Figure, axes: np.ndarray, chosen: pd.DataFrame, others: int) -> None:
    for column, kind in enumerate(KINDS):
        axes[-1, column].set_xlabel(f"{kind}\n(by layer)")
        top = max(1.0, axes[0, column].get_ylim()[1])
        axes[0, column].set_ylim(-0.03 * top, top)
        for axis in axes[:, column]:
            axis.yaxis.set_major_locator(MaxNLocator(2))
            axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    known = any(to_hex(bar.get_facecolor()) == PRUNED.lower() for axis in figure.axes for bar in axis.patches)
    unknown = "" if known else "pruned tokens are not known: no run on these demonstrations kept everything"
    pruned = {"pruned": Patch(color=PRUNED)} if known else {}
    add_legend(figure, {"kept (method's colour)": Patch(color=KEPT), **pruned})
    finish(figure, chosen, [_place(chosen), _TOKENS, unknown, left_out(others)], legend=False)


def _place(chosen: pd.DataFrame) -> str:
    """The shots and limits of the chosen settings."""
    limits = ", ".join(f"{limit:g}" for limit in sorted(chosen["delta"].dropna().unique()))
    return f"{chosen['shots'].iloc[0]} shots" + (f", delta {limits}" if limits else "")
