"""`value_weighted`: a token matters if answers look at it and its value does something (as KVzip+, kvpress pull 279).

EMLoC's attention of the answers, times the length that the token's value has once a query head's share of the output
projection is applied, |v W_O|: a token with much attention and a value near zero, such as a sink, changes nothing.
Pooling and the answers' bonus are those of `answers`, so that comparing the two shows what the factor does; it is
divided by its mean over the chunk, as the bonus is made for the scale of attention.

Differences from KVzip+: attention is summed over answer positions, not the largest over a repetition; attention is
summed over the query heads of a KV head before it is multiplied by the mean length over these heads; and it is not
divided by the length of the residual stream at the query.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from emloc.importance.base import Importance
from emloc.region import Region
from emloc.scores import pool_scores, protect


@dataclass(frozen=True, kw_only=True)
class ValueWeighted(Importance):
    """As `answers`, each token's attention times what its value adds to the residual stream."""

    probed: ClassVar[bool] = True

    def scores(self, region: Region) -> list[Tensor]:
        answers, found = region.chunk.row.answers, []
        for number, attention in enumerate(region.probe.attention):
            weight = region.backbone.output_projection(number)
            lengths = projected_lengths(region.chunk.layers[number].values, weight).to(attention.device)
            found.append(protect(pool_scores(attention * lengths / lengths.mean(-1, keepdim=True)), answers))
        return found


def projected_lengths(values: Tensor, weight: Tensor) -> Tensor:
    """(H_kv, N): |v W_O| of values (H_kv, N, D), the mean over the query heads of a group; weight (C, H_q D)."""
    heads, _, size = values.shape
    by_head = weight.float().to(values.device).unflatten(1, (heads, -1, size))  # (C, H_kv, G, D)
    # |v W|^2 = v (W W^T) v: no tensor of tokens x hidden size is formed.
    products = by_head.permute(1, 2, 3, 0) @ by_head.permute(1, 2, 0, 3)  # (H_kv, G, D, D)
    squares = ((values.float()[:, None] @ products) * values.float()[:, None]).sum(-1)
    return squares.clamp_min(0).sqrt().mean(1)
