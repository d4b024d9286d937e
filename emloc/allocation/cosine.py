"""`cosine`: budgets that fall from bottom to top along half a cosine (PyramidInfer, arXiv 2405.12532).

As the EMLoC paper runs that baseline (reference variant 9): layer l of L keeps a share of every chunk in proportion to
r + (1 - r) (1 + cos(pi l / L)) / 2, r = 0.01 / 0.40, but no fewer than 64 tokens, and the chunk's first 4 tokens have
a bonus of 100. Its mean of 21.2 % of the tokens (28 layers) is `budget=0.212`. PyramidInfer itself passes fewer tokens
from layer to layer while it runs the prompt, each a share of those before it; here, as in the reference, the context is
run whole and what is cut is the memory.

Differences from the reference: the mean is `budget`, exactly, so what the smallest layers have more, the others have
less; where the budget is below `least`, all layers are equal; and the top layer is pruned, which the reference
counts as pruned and returns whole.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from emloc.allocation.base import Decision, Share
from emloc.allocation.budget import Scheduled, spread
from emloc.options import CountOrZero, Range
from emloc.region import Measure
from emloc.scores import protect


@dataclass(frozen=True, kw_only=True)
class Cosine(Scheduled):
    """Budgets fall from the bottom layer to `falls_to` of its budget above the top one; their mean is `budget`.

    Parameters
    ----------
    falls_to
        What the schedule falls to, as a share of where it starts.
    least
        Tokens of a chunk that every layer keeps, if the budget is large enough.
    sinks
        First tokens of a chunk that are scored above others.
    """

    falls_to: Annotated[float, Range(0, 1)] = 0.025
    least: CountOrZero = 64
    sinks: CountOrZero = 4

    def weights(self, layers: int) -> list[float]:
        falling = ((1 + math.cos(math.pi * layer / layers)) / 2 for layer in range(layers))
        return [self.falls_to + (1 - self.falls_to) * share for share in falling]

    def counts(self, layers: int, share: Share) -> list[int]:
        # A chunk by itself, unlike other schedules: `least` is of a chunk. The sums over layers add up to the budget.
        total = share.portion(self.target(share.total) * layers)
        least = min(max(self.least, share.reserved), share.tokens, total // layers)
        above = [each - least for each in _scaled(self.weights(layers), total, least, share.tokens)]
        if not any(above):
            return [least] * layers
        return [least + each for each in spread(above, total - least * layers, most=share.tokens - least)]

    def decide(self, scores: Sequence[Tensor], share: Share, measure: Measure) -> Decision:
        first = torch.arange(share.tokens, device=scores[0].device) < self.sinks
        return super().decide([protect(score, first) for score in scores], share, measure)


def _scaled(weights: Sequence[float], total: int, least: int, most: int) -> list[float]:
    """The weights times the one factor with which they add up to `total`, none below `least` nor above `most`."""
    low, high = 0.0, most / min(weights)
    for _ in range(100):
        factor = (low + high) / 2
        scaled = [min(max(factor * weight, least), most) for weight in weights]
        low, high = (low, factor) if sum(scaled) > total else (factor, high)
    return scaled
