"""`emloc`: layer-adaptive pruning under a Jensen-Shannon limit (paper section 3; public reference variant 3).

Differences from the public reference, none of which changes a decision in float32: divergences are always float32,
kept tokens are stored in context order instead of score order, a chunk of one demonstration works, and only the
answer positions' attention is ever formed.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from emloc.backbones.base import Backbone
from emloc.divergence import LN2, js_divergence
from emloc.errors import UserError
from emloc.importance import pool_scores, protect, top_indices
from emloc.memory import MemoryLayer
from emloc.methods.base import Candidate, Context, Method, Pruning
from emloc.passes import Chunk, Probe
from emloc.rows import Row


def probe_scores(probe: Probe, answers: Tensor) -> list[Tensor]:
    """Token scores (H_kv, N) per layer: pooled attention of the probes' answers, answer tokens of the chunk on top."""
    return [protect(pool_scores(attention), answers) for attention in probe.attention]


@dataclass(frozen=True, kw_only=True)
class EMLoC(Method):
    """Prune every layer as far as the model's own answers allow, from the top layer down.

    Parameters
    ----------
    delta
        Limit on the Jensen-Shannon divergence (nats) between the probes' answers with the pruned and with the whole
        chunk. One budget per chunk, spent by the upper layers first. 0 keeps everything that matters to the last bit.
    ratios
        Retention ratios tried at every layer, ascending; the first within the limit is taken, else all is kept.
        A ratio that would keep no token of a (short) chunk is not tried.
    """

    name: ClassVar[str] = "emloc"
    delta: float = 0.005
    ratios: tuple[float, ...] = (0.1, 0.2, 0.5)

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "ratios", tuple(float(ratio) for ratio in self.ratios))
        if not 0 <= self.delta <= LN2 or math.isnan(self.delta):
            raise UserError(f"Expected delta between 0 and ln 2 = 0.6931 (nats), but got {self.delta}.")
        ascending = list(self.ratios) == sorted(set(self.ratios))
        if not self.ratios or not ascending or not all(0 < ratio <= 1 for ratio in self.ratios):
            raise UserError(
                f"Expected ascending retention ratios in (0, 1], such as [0.1,0.2,0.5], but got {list(self.ratios)}."
            )

    def prune(
        self, backbone: Backbone, context: Context, chunk: Chunk, rows: Sequence[Row], tick: Callable[[], None]
    ) -> Pruning:
        probe = Probe(backbone, rows, context.memory, chunk)
        search = _Search(probe, chunk, probe_scores(probe, chunk.row.answers))
        for layer in reversed(range(backbone.n_layers)):
            search.decide(layer, self.ratios, self.delta)
            tick()
        return search.result()


class _Search:
    """The state of one chunk's top-down search: what every layer keeps so far, and the divergence of that state."""

    def __init__(self, probe: Probe, chunk: Chunk, scores: Sequence[Tensor]) -> None:
        self._probe = probe
        self._whole = chunk.layers
        self._scores = scores
        self._state: list[MemoryLayer] = list(chunk.layers)
        self._kept: list[Tensor | None] = [None] * len(scores)
        self._js = 0.0
        self._layer_js = [0.0] * len(scores)
        self._tried: list[Candidate] = []

    def decide(self, layer: int, ratios: Sequence[float], delta: float) -> None:
        """Take the smallest ratio within the limit at this layer; the layers above stay as decided."""
        for ratio in ratios:
            count = int(self._whole[layer].length * ratio)
            if count and self._accepts(layer, ratio, count, delta):
                break
        self._layer_js[layer] = self._js

    def result(self) -> Pruning:
        """The chunk's final state. Its divergence is that of the last accepted trial, which was this very state."""
        return Pruning(self._kept, self._js, tuple(self._layer_js), tuple(self._tried))

    def _accepts(self, layer: int, ratio: float, count: int, delta: float) -> bool:
        index = top_indices(self._scores[layer], count)
        trial = [*self._state]
        trial[layer] = self._whole[layer].select(index)
        logits = self._probe.rerun(layer, [part.key_values for part in trial])
        js = js_divergence(self._probe.reference, logits).item()
        accepted = js <= delta
        self._tried.append(Candidate(layer, ratio, count, js, accepted))
        if accepted:
            self._state, self._kept[layer], self._js = trial, index, js
        return accepted
