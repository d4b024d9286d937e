"""The picture of docs/METHOD.md: what emloc_plus makes of one chunk of text.

    python -m experiments.pictures.one_chunk [--model smollm2] [--dataset topics] [--out docs/figures/method.png]

Above, a few demonstrations, each token as dark as the share of all KV heads that keep it. Below, the curve of every KV
head with the place that the price gives it, and how many tokens each head keeps.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from emloc import Backbone, EMLoCPlus, load_backbone
from emloc.allocation.base import Share
from emloc.allocation.water_filling import loss_curves, orders, possible_counts
from emloc.errors import UserError
from emloc.passes import prefill
from emloc.region import Measure, Region
from emloc.rows import concatenate
from experiments.datasets.labelled_texts import LabelledTexts
from experiments.records.look import COLOURS, DPI, STYLE

_SHOTS = 20
_COLUMNS = 105  # characters of a line of text
_LINES = 10
_FULL = 0.5  # the share of heads that is shown in full colour
_LETTERS: dict[str, Any] = {"family": "monospace", "fontsize": 6.8, "va": "center_baseline", "parse_math": False}
_FLOOR = 1e-9  # of the curves: below it nothing is lost


@dataclass(frozen=True)
class Filled:
    """A chunk, the curve of each KV head, and what it keeps; H heads of all layers in one row."""

    words: Sequence[str]  # (N,) the tokens as text
    curves: Tensor  # (H, R) loss over the tokens kept
    counts: Sequence[int]  # (R,) tokens kept along a curve
    kept: Tensor  # (H, N) bool
    layers: int

    @property
    def lengths(self) -> Tensor:
        """(H,) tokens that each head keeps."""
        return self.kept.sum(-1)

    @classmethod
    def of(cls, backbone: Backbone, dataset: LabelledTexts, method: EMLoCPlus) -> "Filled":
        """The first chunk, with values left alone; probed as the method says, by demonstrations of the second."""
        rows = backbone.encode(dataset.draw(2 * _SHOTS, 0))
        given, _ = method.chunks(backbone, rows)
        chunk = prefill(backbone, concatenate(given.turns), backbone.empty_memory())
        region = Region(backbone, chunk, backbone.empty_memory(), given.probes)
        assert method.importance is not None
        assert method.allocation is not None
        scores = method.importance.scores(region)
        share = Share(before=0, tokens=chunk.tokens, total=chunk.tokens)
        decision = method.allocation.decide(scores, share, Measure(region))
        counts = possible_counts(share)
        curves = torch.cat(list(loss_curves(region, orders(scores), counts)))
        kept = torch.zeros(backbone.n_layers, len(scores[0]), chunk.tokens, dtype=torch.bool)
        for of_layer, choice in zip(kept, decision.kept, strict=True):
            everything = [torch.arange(chunk.tokens)] * len(of_layer)
            for head, index in zip(of_layer, everything if choice is None else choice, strict=True):
                head[index] = True
        words = [backbone.tokenizer.decode([token]) for token in chunk.row.ids.tolist()]
        return cls(words, curves, counts, kept.flatten(0, 1), backbone.n_layers)


def draw(filled: Filled) -> Figure:
    """Text above, curves and lengths below."""
    figure = Figure(figsize=(7.2, 5.2), layout="constrained")
    axes: dict[str, Axes] = figure.subplot_mosaic([["text", "text"], ["curves", "lengths"]], height_ratios=[1, 1.1])
    _text(axes["text"], filled)
    _draw_curves(axes["curves"], filled)
    shown = axes["lengths"].imshow(
        filled.lengths.view(filled.layers, -1).T.numpy(), aspect="auto", cmap="Blues", vmin=0, interpolation="nearest"
    )
    axes["lengths"].set(xlabel="layer", ylabel="KV head", yticks=range(len(filled.kept) // filled.layers))
    axes["lengths"].grid(visible=False)
    mean = filled.lengths.float().mean()
    axes["lengths"].set_title(f"c  tokens kept, of {len(filled.words)}; mean {mean:.0f}", loc="left")
    figure.colorbar(shown, ax=axes["lengths"])
    return figure


def _text(axes: Axes, filled: Filled) -> None:
    """Tokens in the chunk's order, from its start, as dark as many heads keep them."""
    line, column = 0, 0
    for word, share in zip(filled.words, filled.kept.float().mean(0).tolist(), strict=True):
        shown = word.replace("\n", "\u21b5")
        if column + len(shown) > _COLUMNS:
            line, column = line + 1, 0
        if line == _LINES:
            break
        axes.add_patch(_mark(column, line, len(shown), min(1.0, share / _FULL)))
        ink = "white" if share > 0.6 * _FULL else "#222222"
        axes.text(column, line, shown, color=ink, **_LETTERS)
        column += len(shown)
    axes.set(xlim=(0, _COLUMNS), ylim=(_LINES - 0.5, -0.5))
    axes.set_title("a  the first demonstrations; full blue: half of all KV heads, or more, keep the token", loc="left")
    axes.axis("off")


def _mark(column: int, line: int, width: int, alpha: float) -> Rectangle:
    return Rectangle((column, line - 0.42), width, 0.84, color=COLOURS[0], alpha=alpha, linewidth=0)


def _draw_curves(axes: Axes, filled: Filled) -> None:
    heads_per_layer = len(filled.curves) // filled.layers
    for head, (curve, kept) in enumerate(zip(filled.curves, filled.lengths.tolist(), strict=True)):
        colour = colormaps["viridis"](head // heads_per_layer / filled.layers)
        axes.loglog(filled.counts[:-1], curve[:-1].clamp_min(_FLOOR).tolist(), color=colour, linewidth=0.5, alpha=0.6)
        if kept in filled.counts[:-1]:
            axes.plot(kept, max(float(curve[filled.counts.index(kept)]), _FLOOR), "o", color=colour, markersize=2.4)
    axes.set(xlabel="tokens kept", ylabel="weighted change of outputs")
    axes.set_title("b  a curve per KV head; dots: one price for all", loc="left")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run as a command; returns its exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="smollm2", help="a text model: a folder, or smollm2")
    parser.add_argument("--dataset", default="topics", help="a bundled text task: topics, cities, kinds, languages")
    parser.add_argument("--out", type=Path, default=Path("docs/figures/method.png"), help="the file")
    options = parser.parse_args(arguments)
    try:
        module = import_module(f"experiments.datasets.{options.dataset}")
        dataset: Any = getattr(module, options.dataset.capitalize())()
        filled = Filled.of(load_backbone(options.model, device="cpu"), dataset, EMLoCPlus(probe="heldout"))
    except (UserError, ModuleNotFoundError) as error:
        print(error, file=sys.stderr)
        return 1
    with rc_context(dict(STYLE)):
        draw(filled).savefig(options.out, dpi=DPI)
    print(options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
