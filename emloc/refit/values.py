"""`values`: change the values that stay so that heads give the outputs they gave with everything there.

Ridge least squares at the probes' positions, layer by layer from the bottom, on the inputs of the pruned model itself
(values of Attention Matching, arXiv 2602.16284, without its biases). A fit is always better on the rows it was made
with, so it is judged on others: fitted on half of the probes, measured on the other half, both ways. The values kept
in the end are fitted on all probes. They are no longer the model's own.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from emloc.allocation.base import Allocation, Decision, Share
from emloc.divergence import js_divergence
from emloc.options import Range
from emloc.refit.base import Refit
from emloc.region import Kept, Measure


@dataclass(frozen=True, kw_only=True)
class Values(Refit):
    """Least squares of the kept values against the outputs of the whole region.

    Parameters
    ----------
    ridge
        Weight of the change itself, as a share of the mean diagonal of the normal equations.
    """

    observing: ClassVar[bool] = True
    ridge: Annotated[float, Range(0, 1, above=True)] = 0.003

    def forwards(self, layers: int, trials: int, *, judging: bool) -> int:
        # Two passes judge a state, one measures it without the fit, one fits; or the search is made again without.
        return trials + layers + max(layers, trials) if judging else 4 * layers

    def decide(self, allocation: Allocation, scores: Sequence[Tensor], share: Share, measure: Measure) -> Decision:
        """The allocation's decision with values refitted; without, where that does not help on rows left out."""
        if len(measure.region.probes.rows) < 2:
            return allocation.decide(scores, share, measure)
        judged = CrossFitted(measure.region, ridge=self.ridge)
        joint = allocation.judged_as_refitted
        decision = allocation.decide(scores, share, judged if joint else measure)
        crossfit = judged(decision.kept)
        if crossfit >= measure(decision.kept):
            return allocation.decide(scores, share, measure) if joint else decision
        if joint:
            measure.decided(len(scores))
        _, values = measure.region.refitted(decision.kept, ridge=self.ridge)
        return replace(decision, values=values, crossfit=crossfit)


@dataclass
class CrossFitted(Measure):
    """Measures what a choice would cost with values refitted, each probe by a fit that did not see it."""

    ridge: float = 0.003

    def __call__(self, kept: Kept, *, values: object = None, adoptable: bool = False) -> float:
        """Mean JS divergence (nats) at the compared positions; runs all layers twice."""
        assert values is None, "the values are what is fitted here"
        assert not adoptable, "refitted layers below are no base for others"
        known = self.known(kept)
        if known is not None:
            return known
        js = self._crossfit(kept)
        self._known.append((tuple(kept), js))
        return js

    def _crossfit(self, kept: Kept) -> float:
        _ = self.region.observed  # before the probe, which it makes as well
        probe, rows = self.region.probe, len(self.region.probes.rows)
        even = torch.arange(rows, device=probe.reference.device) % 2 == 0  # of every two neighbours one
        by_even, by_odd = (self.region.refitted(kept, ridge=self.ridge, fitted_on=fold)[0] for fold in (even, ~even))
        unseen = torch.where(even[probe.compared_rows][:, None], by_odd, by_even)
        return js_divergence(probe.reference, unseen).item()
