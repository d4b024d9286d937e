"""`top_p`: as many tokens as hold a share of the importance, head by head.

Nucleus sampling's rule for attention (Twilight, arXiv 2502.02770, which applies it to each query while decoding;
FastGen and PrefixKV, arXiv 2412.03409, keep a share of the attention in the cache in the same way). Here it is applied
to a region's scores once, for every query to come, and the share is the same for all layers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from emloc.allocation.base import Allocation, Decision, Share
from emloc.options import Range
from emloc.region import Measure


@dataclass(frozen=True, kw_only=True)
class TopP(Allocation):
    """Per KV head the fewest tokens whose scores are the share `p` of all: few where few matter.

    How many that are depends on the importance: its scores count as masses. Tokens that always stay are kept beside
    that, and scores below 0 count as 0. With the bonus of `answers`, the answers hold
    nearly all of the mass.
    """

    p: Annotated[float, Range(0, 1, above=True)] = 0.95

    def decide(self, scores: Sequence[Tensor], share: Share, measure: Measure) -> Decision:
        return Decision([tuple(self._nucleus(head) for head in layer) for layer in scores])

    def _nucleus(self, scores: Tensor) -> Tensor:
        """Ascending places of one head's tokens that stay, out of scores (N,); at least one."""
        always = scores.isinf()
        masses = scores.double().clamp_min(0).masked_fill(always, 0)
        best = masses.argsort(descending=True, stable=True)
        reached = masses[best].cumsum(0)
        # A token stays if those before it fall short of the share; the first one always does, also of nothing.
        short = torch.cat([reached.new_full((1,), -1.0), reached[:-1]]) < self.p * reached[-1]
        always[best[short]] = True
        return always.nonzero()[:, 0]
