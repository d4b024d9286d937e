"""`rms_attention`: the root mean square of the attention on a token (Attention Matching, arXiv 2602.16284).

All tokens of the probe rows look, in all query heads of a KV head. The rows repeat the chunk's demonstrations, which is
the published way to get queries without knowing those to come ("repeat-prefill"). As published, the softmax runs over
the stretch that is compacted alone: neither the earlier memory nor the row itself takes part.

Differences: every demonstration is repeated by itself, where the published code repeats the context as a whole behind
an instruction; and tokens are scored on what the whole chunk gives, where its "on-policy" variant scores each layer on
what the compacted layers below give.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from emloc.head_outputs import Seen
from emloc.importance.base import Importance
from emloc.region import Region


@dataclass(frozen=True, kw_only=True)
class RmsAttention(Importance):
    """Root mean square, over all tokens of the probes, of the attention that each pays to a token of the chunk."""

    probed: ClassVar[bool] = True
    observing: ClassVar[bool] = True

    def scores(self, region: Region) -> list[Tensor]:
        pairs, home = zip(region.observed, region.chunk.layers, strict=True), region.backbone.device
        return [rms_attention(observed, layer.keys).to(home) for observed, layer in pairs]


def rms_attention(seen: Seen, keys: Tensor) -> Tensor:
    """(H_kv, N) of keys (H_kv, N, D): sqrt(mean of p^2) over the query positions of each KV head."""
    squares = torch.stack([_squares(seen, head, of_head) for head, of_head in enumerate(keys.float())])
    return (squares / seen.queries.shape[1]).sqrt()


def _squares(seen: Seen, head: int, keys: Tensor) -> Tensor:
    """(N,) the sum of squared softmax weights of a KV head's queries on keys (N, D), on nothing else."""
    logits = ((seen.queries[head, at] * seen.scaling) @ keys.T for at in seen.stretches())
    return torch.stack([each.softmax(-1).square().sum(0) for each in logits]).sum(0)
