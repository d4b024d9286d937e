"""`global_threshold`: one threshold on the scores of all layers and KV heads (KVzip, arXiv 2505.23416).

What KVzip calls `layerwise=False`: tokens compete across the model, so layers and heads keep different numbers, some of
them none. That needs scores which mean the same everywhere, as attention weights do. Differences: the published
threshold is a share of all scores, here the number of tokens is met exactly; and chunks that are decided one by one
have a threshold each, and share the budget by their length.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from emloc.allocation.base import Decision, Share
from emloc.allocation.budget import Budgeted
from emloc.region import Measure


@dataclass(frozen=True, kw_only=True)
class GlobalThreshold(Budgeted):
    """The best tokens anywhere in the model, as many in all as the budget is for every layer and KV head together."""

    def decide(self, scores: Sequence[Tensor], share: Share, measure: Measure) -> Decision:
        stacked = torch.stack(list(scores))  # (L, H_kv, N)
        best = stacked.flatten().topk(self.count(stacked.shape[0] * stacked.shape[1], share)).indices
        kept = torch.zeros(stacked.numel(), dtype=torch.bool, device=stacked.device)
        kept[best] = True
        layers = kept.view_as(stacked)
        return Decision([tuple(head.nonzero()[:, 0] for head in layer) for layer in layers])

    def kept(self, layers: int, share: Share) -> tuple[int, int]:
        # Rounded for all heads together, so that layers add up to within one token of their mean.
        exact = self.target(share.total) * layers * share.tokens / share.total
        return math.floor(exact), math.ceil(exact)

    def count(self, heads: int, share: Share) -> int:
        """Entries of this part in all heads of all layers; those of all parts add up to the budget exactly."""
        return share.portion(self.target(share.total) * heads)
