"""The forward passes of the method: prefill a chunk over a memory, probe it, rerun the probe with part of it kept."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from emloc.attention import KeyValues, LayerAttention, attend, attend_with_lse
from emloc.backbones.base import Backbone
from emloc.divergence import js_divergence
from emloc.errors import UserError
from emloc.head_outputs import Seen, refit_values
from emloc.memory import Memory, MemoryLayer
from emloc.rows import Row, RowBatch
from emloc.scores import chunk_attention


@dataclass(frozen=True)
class Chunk:
    """A stretch of the context, prefilled: its raw keys and values, all tokens kept."""

    layers: tuple[MemoryLayer, ...]
    row: Row
    offset: int  # next free position after the chunk
    tail: tuple[Tensor, ...]  # per layer, queries (H_q, W, D) of the last W tokens asked for

    @property
    def tokens(self) -> int:
        """Raw length."""
        return len(self.row)


def prefill(backbone: Backbone, row: Row, memory: Memory, *, tail: int = 0) -> Chunk:
    """Run a chunk causally over all of `memory`; positions continue at `memory.offset`."""
    taken: list[tuple[Tensor, Tensor]] = []
    queries: list[Tensor] = []

    def attention(layer: int, q: Tensor, k: Tensor, v: Tensor, scaling: float) -> Tensor:
        taken.append((k[0], v[0]))
        queries.append(q[0, :, max(0, q.shape[2] - tail) :].clone() if tail else q[0, :, :0])
        return attend(q, k, v, scaling=scaling, attn=backbone.attn, shared=[memory.layers[layer].key_values])

    added = None if row.added is None else row.added[:, None]
    backbone.run_layers(row.embeds[None], row.positions[:, None] + memory.offset, attention, added=added)
    index = torch.arange(len(row), dtype=torch.int32, device=row.ids.device) + memory.tokens_seen
    layers = tuple(MemoryLayer(k, v, index.to(k.device).expand(k.shape[0], -1)) for k, v in taken)
    return Chunk(layers, row, memory.offset + row.span, tuple(queries))


def run_rows(backbone: Backbone, batch: RowBatch, memory: Memory, *, inputs: list[Tensor] | None = None) -> Tensor:
    """Hidden states (B, T, C) of independent rows over `memory`, before the final norm.

    `inputs` collects the input (B, T, C) of every layer.
    """
    return backbone.run_layers(batch.embeds, batch.positions, _over(backbone, memory), inputs=inputs, added=batch.added)


def _over(backbone: Backbone, memory: Memory) -> LayerAttention:
    """Attention of rows over a memory and themselves."""

    def attention(layer: int, q: Tensor, k: Tensor, v: Tensor, scaling: float) -> Tensor:
        return attend(q, k, v, scaling=scaling, attn=backbone.attn, shared=[memory.layers[layer].key_values])

    return attention


def rows_divergence(
    backbone: Backbone, rows: Sequence[Row], full: Memory, pruned: Memory, *, compared: Tensor | None = None
) -> float:
    """JS divergence (nats) of rows asked at the end of the context, over `pruned` against over `full`.

    Each memory has its own end: one of fewer demonstrations ends earlier.

    `compared` (B, T) bool marks the positions whose logits count; by default the answers.
    """
    batches = [(RowBatch.stack(rows, offset=memory.offset), memory) for memory in (full, pruned)]
    marked = batches[0][0].answers if compared is None else compared
    logits = [backbone.logits(run_rows(backbone, batch, memory)[marked]) for batch, memory in batches]
    return js_divergence(*logits).item()


def layer_divergences(backbone: Backbone, rows: Sequence[Row], full: Memory, pruned: Memory) -> list[float]:
    """As `rows_divergence`, one per layer, with only the layers from that one up pruned.

    The first is that of the whole memory, the last that of the top layer alone. Runs L (L + 3) / 2 layers. UserError if
    the memories end at different positions, as a query has one position in all layers.
    """
    if full.offset != pruned.offset:
        raise UserError(
            f"Expected memories of the same context to compare layer by layer, but they end at positions {full.offset} "
            f"and {pruned.offset}; leave heldout_layers out for a method that shows fewer demonstrations."
        )
    batch = RowBatch.stack(rows, offset=full.offset)
    inputs: list[Tensor] = []
    reference = backbone.logits(run_rows(backbone, batch, full, inputs=inputs)[batch.answers])
    found = []
    for start, hidden in enumerate(inputs):
        last = backbone.run_layers(hidden, batch.positions, _over(backbone, pruned), start=start, added=batch.added)
        found.append(js_divergence(reference, backbone.logits(last[batch.answers])).item())
    return found


class Probe:
    """Independent rows run over memory + chunk: the teacher, and who observes the chunk (paper section 3.2).

    Parameters
    ----------
    observers
        (B, T) bool, the positions of the rows whose attention counts; by default the answers.
    compared
        (B, T) bool, the A positions of the rows whose logits count; by default the answers.

    observing
        Keep what all tokens of the rows saw, which takes twice the memory of the layers' inputs.

    Attributes
    ----------
    reference
        Float32 logits (A, V) at the compared positions of all rows, the whole chunk visible: the teacher.
    attention
        Per layer, attention mass (H_kv, N) of the observers on the chunk's tokens.
    observed
        Per layer, what all tokens of the rows saw; empty unless `observing`.
    """

    def __init__(
        self,
        backbone: Backbone,
        rows: Sequence[Row],
        memory: Memory,
        chunk: Chunk,
        *,
        observers: Tensor | None = None,
        compared: Tensor | None = None,
        observing: bool = False,
    ) -> None:
        self._backbone = backbone
        self._memory = memory
        self._batch = RowBatch.stack(rows, offset=chunk.offset)
        self._counted, self._at = _marked_positions(self._batch.answers if observers is None else observers)
        self._compared = self._batch.answers if compared is None else compared
        self._inputs: list[Tensor] = []
        self.attention: list[Tensor] = []
        self.observed: list[Seen] = []
        self._observing = observing
        self.reference = self._teach([layer.key_values for layer in chunk.layers])

    def rerun(self, start: int, kept: Sequence[KeyValues], *, inputs: list[Tensor] | None = None) -> Tensor:
        """Logits (A, V) with `kept` in place of the chunk, running layers `start`..L-1 from the stored input.

        Layers below `start` must hold what the stored input was computed with: the whole chunk, or what was adopted.
        `inputs` collects the input (B, T, C) of each of the layers run, for `adopt`.
        """

        def attention(layer: int, q: Tensor, k: Tensor, v: Tensor, scaling: float) -> Tensor:
            shared = [self._memory.layers[layer].key_values, kept[layer]]
            return attend(q, k, v, scaling=scaling, attn=self._backbone.attn, shared=shared)

        batch = self._batch
        return self._logits(
            self._backbone.run_layers(
                self._inputs[start], batch.positions, attention, start=start, inputs=inputs, added=batch.added
            )
        )

    def input_power(self, layer: int) -> float:
        """Mean squared norm of the layer's input over the tokens of the rows: of the residual stream there."""
        hidden = self._inputs[layer]
        return float(hidden[self._batch.real.to(hidden.device)].float().square().sum(-1).mean())

    @property
    def compared_rows(self) -> Tensor:
        """(A,) the row that each compared position is of."""
        return self._compared.nonzero()[:, 0]

    def refitted(
        self,
        kept: Sequence[MemoryLayer],
        pruned: Sequence[bool],
        teacher: Sequence[Seen],
        *,
        ridge: float,
        fitted_on: Tensor | None = None,
    ) -> tuple[Tensor, list[Tensor | None]]:
        """Logits (A, V) with `kept` in place of the chunk and its values fitted to the teacher's outputs; the values.

        `fitted_on` (B,) bool: the rows whose tokens are fitted; None: all. Layers that are not `pruned` stay as they
        are.
        """
        batch, real = self._batch, self._batch.real
        counted = real if fitted_on is None else real & fitted_on[:, None]
        values: list[Tensor | None] = [None] * len(kept)

        def attention(layer: int, q: Tensor, k: Tensor, v: Tensor, scaling: float) -> Tensor:
            shared = [self._memory.layers[layer].key_values, kept[layer].key_values]
            output, lse = attend_with_lse(q, k, v, scaling=scaling, attn=self._backbone.attn, shared=shared)
            if pruned[layer]:
                seen = Seen.of(q, output, lse, kv_heads=k.shape[1], scaling=scaling)
                heads = [(keys, vals) for keys, vals, _ in kept[layer].heads]
                here, fitted = real.to(q.device), counted.to(q.device)
                fit = refit_values(seen, heads, teacher[layer], real=here, fitted_on=fitted, ridge=ridge)
                output, values[layer] = fit.outputs, fit.values.view_as(kept[layer].values)
            return output.transpose(1, 2).to(q.dtype)

        hidden = self._backbone.run_layers(batch.embeds, batch.positions, attention, added=batch.added)
        return self._logits(hidden), values

    def adopt(self, start: int, inputs: Sequence[Tensor]) -> None:
        """Later reruns start from these inputs of the layers `start`..L-1, those of a rerun whose `kept` stays."""
        self._inputs[start:] = inputs

    def _teach(self, chunk: Sequence[KeyValues]) -> Tensor:
        visible = _causal(self._at, self._batch.embeds.shape[1])

        def attention(layer: int, q: Tensor, k: Tensor, v: Tensor, scaling: float) -> Tensor:
            at = self._at[:, None, :, None].expand(-1, q.shape[1], -1, q.shape[-1])
            mass = chunk_attention(
                q.gather(2, at.to(q.device)), k, chunk[layer].keys,
                visible=visible.to(q.device), counted=self._counted.to(q.device), scaling=scaling,
            )  # fmt: skip
            self.attention.append(mass.to(self._at.device))  # of all layers in one place, to be compared
            shared = [self._memory.layers[layer].key_values, chunk[layer]]
            output, lse = attend_with_lse(q, k, v, scaling=scaling, attn=self._backbone.attn, shared=shared)
            if self._observing:
                seen = Seen.of(q, output, lse, kv_heads=k.shape[1], scaling=scaling)
                self.observed.append(seen.only(real.to(q.device)))
            return output.transpose(1, 2).to(q.dtype)

        batch, real = self._batch, self._batch.real
        return self._logits(
            self._backbone.run_layers(batch.embeds, batch.positions, attention, inputs=self._inputs, added=batch.added)
        )

    def _logits(self, hidden: Tensor) -> Tensor:
        return self._backbone.logits(hidden[self._compared])


def _marked_positions(marked: Tensor) -> tuple[Tensor, Tensor]:
    """The positions marked in (B, T) bool: which of (B, A) count, padded to the most of a row, and these positions."""
    counts = marked.sum(1)
    at = marked.int().argsort(dim=1, descending=True, stable=True)[:, : int(counts.max())]
    counted = torch.arange(at.shape[1], device=at.device) < counts[:, None]
    return counted, at


def _causal(at: Tensor, length: int) -> Tensor:
    """(B, A, T) bool: tokens at or before each position."""
    return torch.arange(length, device=at.device) <= at[..., None]
