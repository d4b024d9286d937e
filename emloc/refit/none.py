"""`none`: the values that stay are the model's own."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from emloc.allocation.base import Allocation, Decision, Share
from emloc.refit.base import Refit
from emloc.region import Measure


@dataclass(frozen=True, kw_only=True)
class NoRefit(Refit):
    """Nothing is changed."""

    def decide(self, allocation: Allocation, scores: Sequence[Tensor], share: Share, measure: Measure) -> Decision:
        return allocation.decide(scores, share, measure)
