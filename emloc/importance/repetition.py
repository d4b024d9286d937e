"""`repetition`: a token matters if anything looks at it while the context is repeated (KVzip, arXiv 2505.23416).

The probe rows are the chunk's own demonstrations, so running them over the chunk is the repetition. A token's score is
the largest attention that any token of any row, in any query head of the group, pays to it. The softmax runs over the
context's first tokens (sinks), the chunk and the row itself, as published; the rest of the earlier memory is left out.

Differences: every demonstration is repeated by itself, each row behind the whole chunk, instead of 2,048 tokens at a
time behind an instruction ("Repeat the previous context exactly"); and a chunk is scored as soon as it is there, over
what was kept of the chunks before it, where the published method prefills the whole context first.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from emloc.attention import attend
from emloc.importance.base import Importance
from emloc.memory import MemoryLayer
from emloc.options import CountOrZero
from emloc.region import Region
from emloc.rows import RowBatch

_LARGEST = 1.0  # no softmax weight is larger


@dataclass(frozen=True, kw_only=True)
class Repetition(Importance):
    """Largest attention that any token of the probes pays to each token; nothing is pooled, no token has a bonus.

    Parameters
    ----------
    sinks
        First tokens of the whole context, which get the largest score there is and take part in later softmaxes.
    """

    passes: ClassVar[int] = 1
    sinks: CountOrZero = 4

    def scores(self, region: Region) -> list[Tensor]:
        """Runs the probes once, for themselves: what they see of the earlier memory is not part of these weights."""
        backbone, chunk, memory = region.backbone, region.chunk.layers, region.memory
        batch, found = RowBatch.stack(region.probes.rows, offset=region.chunk.offset), []

        def attention(layer: int, q: Tensor, k: Tensor, v: Tensor, scaling: float) -> Tensor:
            sinks = self._sinks(memory.layers[layer])
            found.append(strongest(q, k, chunk[layer].keys, sinks, lengths=batch.lengths.tolist(), scaling=scaling))
            shared = [memory.layers[layer].key_values, chunk[layer].key_values]
            return attend(q, k, v, scaling=scaling, attn=backbone.attn, shared=shared)

        backbone.run_layers(batch.embeds, batch.positions, attention, added=batch.added)
        scores = [each.to(backbone.device) for each in found]
        first = chunk[0].index[0] < self.sinks  # a chunk holds every token in every head
        return [each.masked_fill(first.to(each.device), _LARGEST) for each in scores]

    def _sinks(self, memory: MemoryLayer) -> list[Tensor]:
        """Per KV head the keys (S, D) of those of the context's first tokens that are still in memory."""
        return [keys[index < self.sinks] for keys, _, index in memory.heads]


def strongest(
    queries: Tensor,  # (B, H_q, T, D)
    own_keys: Tensor,  # (B, H_kv, T, D)
    chunk_keys: Tensor,  # (H_kv, N, D)
    sinks: Sequence[Tensor],  # per KV head (S, D)
    *,
    lengths: Iterable[int],  # of the rows; what follows is padding
    scaling: float,
) -> Tensor:  # (H_kv, N) float32
    """The largest softmax weight on every chunk token, over {sinks, chunk, own row up to the query}."""
    highest = torch.zeros(chunk_keys.shape[:2], device=chunk_keys.device)
    # Row by row and head by head: the largest temporary is (G, T, N), where a batch's would be as large as a prefill's.
    for row, length in enumerate(lengths):
        grouped = queries[row, :, :length].unflatten(0, (len(chunk_keys), -1)).float()  # (H_kv, G, T, D)
        for head, (asked, own) in enumerate(zip(grouped, own_keys[row, :, :length], strict=True)):
            weights = _weights(asked * scaling, own.float(), torch.cat([sinks[head], chunk_keys[head]]).float())
            highest[head] = highest[head].maximum(weights[..., len(sinks[head]) :].amax((0, 1)))
    return highest


def _weights(queries: Tensor, own: Tensor, others: Tensor) -> Tensor:
    """Softmax weights (G, T, M) of scaled queries (G, T, D) on `others` (M, D), beside the row's own keys (T, D)."""
    later = torch.ones(len(own), len(own), dtype=torch.bool, device=own.device).triu(1)
    logits = torch.cat([queries @ others.T, (queries @ own.T).masked_fill(later, -torch.inf)], dim=-1)
    return logits.softmax(-1)[..., : len(others)]
