"""`quantised`: every demonstration, its keys and values at a few bits a number (KIVI, arXiv 2402.02750); simulated.

What pruning has to beat at equal bytes. As in transformers' quantised caches the context is prefilled as it is, and
quantised then. Simulated: entries are quantised and dequantised at once, and held in the model's own type; the bytes
that are reported are those that codes, steps and zero points would take. See `emloc.quantising` for the layout.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch

from emloc.allocation.base import Decision, Share
from emloc.backbones.base import Backbone
from emloc.importance.base import Scope
from emloc.memory import MemoryLayer
from emloc.methods.base import Method
from emloc.methods.loop import Progress
from emloc.methods.trace import Trace
from emloc.options import Count
from emloc.passes import Chunk
from emloc.quantising import Bits, Quantisation
from emloc.region import Measure, Region
from emloc.rows import Row


@dataclass(frozen=True)
class Rounded(Decision):
    """All tokens stay, with their keys and values rounded."""

    quantisation: Quantisation = Quantisation(8, 64)  # noqa: RUF009 (frozen)

    @property
    def changes(self) -> bool:
        return True

    def layers(self, chunk: Chunk) -> list[MemoryLayer]:
        keys, values = self.quantisation.keys, self.quantisation.values
        return [
            MemoryLayer.of_heads([(keys(k), values(v), index) for k, v, index in layer.heads]) for layer in chunk.layers
        ]


@dataclass(frozen=True, kw_only=True)
class Quantised(Method):
    """The full many-shot context in a quantised cache, simulated.

    Parameters
    ----------
    bits
        Of a number: 8, 4 or 2.
    group
        Numbers that share a step and a zero point.
    """

    name: ClassVar[str] = "quantised"
    bits: Bits = 8
    group: Count = 64

    @property
    def scope(self) -> Scope:
        return "context"

    def decide(self, region: Region, share: Share, measure: Measure) -> Decision:
        return Rounded([None] * len(region.chunk.layers), quantisation=self.quantisation)

    @torch.inference_mode()
    def trace_rows(self, backbone: Backbone, rows: Sequence[Row], *, progress: Progress | None = None) -> Trace:
        """As `Method.trace_rows`; the memory knows how it would be stored."""
        trace = super().trace_rows(backbone, rows, progress=progress)
        return replace(trace, memory=replace(trace.memory, quantisation=self.quantisation))

    @property
    def quantisation(self) -> Quantisation:
        return Quantisation(self.bits, self.group)
