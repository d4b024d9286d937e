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
    crossfit
        Whether a fit is judged on probes that it has not seen. Without, trials and the decision whether to refit are
        judged on the very probes that were fitted, and a divergence says nothing of others; a trial takes one forward
        of all layers instead of two.
    """

    observing: ClassVar[bool] = True
    ridge: Annotated[float, Range(0, 1, above=True)] = 0.003
    crossfit: bool = True

    def forwards(self, layers: int, trials: int, *, judging: bool) -> int:
        # One pass per fold judges a state, one measures it without the fit, one fits; or the search is made again
        # without. A trial's first pass is counted with the search.
        folds = 2 if self.crossfit else 1
        return (folds - 1) * trials + layers + max(layers, trials) if judging else (folds + 2) * layers

    def decide(self, allocation: Allocation, scores: Sequence[Tensor], share: Share, measure: Measure) -> Decision:
        """The allocation's decision with values refitted; without, where that does not help as it is judged."""
        if self.crossfit and len(measure.region.probes.rows) < 2:
            return allocation.decide(scores, share, measure)
        judged = (CrossFitted if self.crossfit else Fitted)(measure.region, ridge=self.ridge)
        joint = allocation.judged_as_refitted
        decision = allocation.decide(scores, share, judged if joint else measure)
        found = judged(decision.kept)
        if found >= measure(decision.kept):
            return allocation.decide(scores, share, measure) if joint else decision
        if joint:
            measure.decided(len(scores))
        _, values = measure.region.refitted(decision.kept, ridge=self.ridge)
        return replace(decision, values=values, crossfit=found if self.crossfit else None)


@dataclass
class Fitted(Measure):
    """Measures what a choice would cost with values refitted, on the probes that they are fitted on."""

    ridge: float = 0.003

    def __call__(self, kept: Kept, *, values: object = None, adoptable: bool = False) -> float:
        """Mean JS divergence (nats) at the compared positions; runs all layers once, or once per fold."""
        assert values is None, "the values are what is fitted here"
        assert not adoptable, "refitted layers below are no base for others"
        known = self.known(kept)
        if known is not None:
            return known
        _ = self.region.observed  # before the probe, which it makes as well
        js = js_divergence(self.region.probe.reference, self._logits(kept)).item()
        self._known.append((tuple(kept), js))
        return js

    def _logits(self, kept: Kept) -> Tensor:
        """(A, V) at the compared positions."""
        return self.region.refitted(kept, ridge=self.ridge)[0]


@dataclass
class CrossFitted(Fitted):
    """As `Fitted`, each probe with values of a fit that did not see it."""

    def _logits(self, kept: Kept) -> Tensor:
        probe, rows = self.region.probe, len(self.region.probes.rows)
        even = torch.arange(rows, device=probe.reference.device) % 2 == 0  # of every two neighbours one
        by_even, by_odd = (self.region.refitted(kept, ridge=self.ridge, fitted_on=fold)[0] for fold in (even, ~even))
        return torch.where(even[probe.compared_rows][:, None], by_odd, by_even)
