"""layers.png: what every layer keeps, and the divergence it costs."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from emloc.methods.trace import Trace
from experiments.records.look import COLOURS, COLUMN, DPI, STYLE

_BLUE, _RED, _GREEN, _PINK, _ORANGE, *_ = COLOURS
_KINDS = (("image", _BLUE), ("question", _ORANGE), ("answer", _GREEN))
_JS, _LIMIT, _SINGLE = _PINK, _RED, "#BBBBBB"
_HEIGHT = 4.6  # inches


def draw_layers(path: Path, trace: Trace, *, delta: float | None) -> None:
    """Write the picture: tokens in memory per layer, by kind, and JS divergence against its limit `delta` (nats)."""
    with rc_context(dict(STYLE)):
        figure = Figure(figsize=(COLUMN, _HEIGHT), dpi=DPI, layout="constrained")
        tokens, js = figure.subplots(2, 1)
        _draw_tokens(tokens, trace)
        _draw_divergence(js, trace, delta)
        figure.savefig(path)


def _draw_tokens(axes: Axes, trace: Trace) -> None:
    layers = range(len(trace.memory.layers))
    bottom = [0.0] * len(layers)
    for kind, colour in _KINDS:
        heights = _kept(trace, kind)
        axes.bar(layers, heights, bottom=bottom, color=colour, label=kind)
        bottom = [low + height for low, height in zip(bottom, heights, strict=True)]
    axes.set(xlabel="layer (0 is the lowest)", ylabel="tokens per KV head")
    axes.set_title(f"Tokens kept of a context of {trace.memory.tokens_seen:,}")
    axes.set_ylim(0, 1.2 * max(1, *bottom))  # room for the legend
    axes.legend(ncols=3, loc="upper center")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _kept(trace: Trace, kind: str) -> list[float]:
    """Tokens of a kind that every layer keeps, over all chunks."""
    totals = [0.0] * len(trace.memory.layers)
    for count in trace.layer_counts():
        totals[count.layer] += getattr(count, f"{kind}_kept")
    return totals


def _draw_divergence(axes: Axes, trace: Trace, delta: float | None) -> None:
    searched = [chunk.layer_js for chunk in trace.chunks if chunk.layer_js]
    if searched:
        _draw_search(axes, searched)
    else:
        axes.plot([chunk.js for chunk in trace.chunks], "o", color=_JS, label="chunk")
        axes.set(title="Divergence of every chunk", xlabel="chunk")
    if delta is not None:
        axes.axhline(delta, color=_LIMIT, linestyle="--", label=f"limit {delta:g}")
    # A limit of 0.005, and what is a thousand times below it, in one view; linear from the first tick down to 0.
    axes.set_yscale("symlog", linthresh=1e-6)
    axes.set(ylabel="JS (nats)", ylim=(0, 1))
    axes.legend(fontsize="small", loc="upper right")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _draw_search(axes: Axes, searched: Sequence[Sequence[float]]) -> None:
    """Divergence after each layer's decision; by default the search goes from the top layer (right) to the bottom."""
    for number, values in enumerate(searched):
        axes.plot(values, color=_SINGLE, linewidth=0.8, label="each chunk" if number == 0 else None)
    mean = [sum(values) / len(values) for values in zip(*searched, strict=True)]
    axes.plot(mean, "o-", color=_JS, label="mean of chunks")
    axes.set(title="Divergence after each layer's decision", xlabel="layer (0 is the lowest)")
