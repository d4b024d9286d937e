"""`water_filling`: one price for every token of every layer and KV head, as high as a limit on the divergence allows.

Each KV head has a curve: what its output loses, weighted by what the head can do to the residual stream, against the
share of tokens it keeps. At a price every head keeps the share that minimises loss + price x share, so tokens go where
they are worth most, and heads keep different numbers. The mean share is searched on the measured divergence of the
final state, a few trials instead of one per layer and ratio. The idea of marginal utility per head is LU-KV's
(arXiv 2602.08585, measured offline); here the curves are of this very chunk, and the divergence sets the price.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor

from emloc.allocation.base import Allocation, Candidate, Decision, Share
from emloc.divergence import LN2
from emloc.head_outputs import removal_curves
from emloc.memory import Choice
from emloc.options import Count, Range
from emloc.region import Measure, Region

# Shares of a region's tokens that a KV head can keep: close together where heads that matter little end up.
SHARES = (0.007, 0.01, 0.014, 0.02, 0.028, 0.04, 0.056, 0.08, 0.11, 0.16, 0.22, 0.31, 0.42, 0.55, 1.0)
_START = 0.15  # the mean share tried first, where no earlier chunk says better
_NEAR = 0.8  # of delta: a divergence between this and delta is near enough
_AIM = 0.9  # of delta
_SLOPE = -2.0  # of log divergence over log share, before two trials tell
_CLOSE = 1.05  # an accepted share this near to a refused one ends the search
_MOST = 0.75  # above this share pruning is not worth its trial: all is kept
_TINY = 1e-12  # in place of a divergence of 0, which has no logarithm
_STEP = 3.0  # a share changes at most by this factor from one trial to the next


@dataclass(frozen=True, kw_only=True)
class WaterFilling(Allocation):
    """Keep what is worth most anywhere in the model, as little in all as the model's own answers allow.

    Parameters
    ----------
    delta
        Limit on the Jensen-Shannon divergence (nats) between the probes' answers with the pruned and with the whole
        region.
    trials
        How many mean shares are tried at most. The smallest within the limit is taken; if there is none, all is kept.
    heads
        `ragged`: every KV head has a curve of its own. `equal`: the curves of a layer's heads are added up to one, so
        that these heads keep equally many tokens (each its own best), and the price is one over layers.
    head_weight
        Whether a head's loss counts by what it does to the residual stream: how much W_O makes of the head's output,
        over the mean squared length of the layer's input. Without, all weights are 1: squared changes of head outputs
        are compared across heads and layers as they are.
    """

    judged_as_refitted: ClassVar[bool] = True
    observing: ClassVar[bool] = True
    delta: Annotated[float, Range(0, LN2, note="nats, at most ln 2")] = 0.005
    trials: Count = 6
    heads: Literal["ragged", "equal"] = "ragged"
    head_weight: bool = True

    @property
    def limit(self) -> float:
        return self.delta

    def limited(self, delta: float) -> "WaterFilling":
        return replace(self, delta=delta)

    def trial_forwards(self, layers: int, tokens: int, reserved: int) -> tuple[int, int]:
        return layers, layers * self.trials

    def kept(self, layers: int, share: Share) -> tuple[int, int]:
        return layers * possible_counts(share)[0], layers * share.tokens

    def decide(self, scores: Sequence[Tensor], share: Share, measure: Measure) -> Decision:
        filling = _Filling.of(scores, share, measure.region, heads=self.heads, head_weight=self.head_weight)
        tried: list[tuple[Candidate, list[Choice]]] = []
        mean: float | None = _start(share.earlier)
        while mean is not None and len(tried) < self.trials:
            kept, ratio = filling.kept(mean)
            js = measure(kept)
            tokens = round(ratio * share.tokens)
            tried.append((Candidate(0, ratio, tokens, js, js <= self.delta), kept))
            mean = _next([candidate for candidate, _ in tried], self.delta, least=filling.least)
        measure.decided(len(scores))
        accepted = [(candidate.ratio, kept) for candidate, kept in tried if candidate.accepted]
        best = min(accepted, key=lambda pair: pair[0])[1] if accepted else [None] * len(scores)
        return Decision(best, candidates=tuple(candidate for candidate, _ in tried))


@dataclass(frozen=True)
class _Filling:
    """The curves of all KV heads, or of layers whose heads are equal, and how they are filled up to a mean share."""

    losses: Tensor  # (L, H_kv, R), or (L, 1, R) for equal heads; float64, falling along R
    shares: Tensor  # (R,) float64, the shares as they are after rounding
    counts: Sequence[int]  # (R,) tokens
    orders: Sequence[Tensor]  # per layer (H_kv, N), the most important first

    @classmethod
    def of(cls, scores: Sequence[Tensor], share: Share, region: Region, *, heads: str, head_weight: bool) -> "_Filling":
        counts, best_first = possible_counts(share), orders(scores)
        curves = torch.stack(list(loss_curves(region, best_first, counts, head_weight=head_weight))).double()
        if heads == "equal":
            curves = curves.sum(dim=1, keepdim=True)
        # A larger set can lose more, as errors that cancelled no longer do; what it offers is the best so far.
        falling = curves.cummin(dim=-1).values
        shares = torch.tensor(counts, dtype=torch.float64, device=falling.device) / share.tokens
        return cls(falling, shares, counts, best_first)

    @property
    def least(self) -> float:
        """The smallest mean share there is."""
        return float(self.shares[0])

    def kept(self, mean: float) -> tuple[list[Choice], float]:
        """The tokens that stay at a mean share, as many heads' steps come to, and the mean share they are."""
        places = self._filled(mean)
        kept = [self._best(order, of_layer) for order, of_layer in zip(self.orders, places.tolist(), strict=True)]
        return kept, float(self.shares[places].mean())

    def _best(self, order: Tensor, places: Sequence[int]) -> Choice:
        """The best tokens of a layer's heads, as many as each one's place says; one place is that of all heads."""
        if len(places) == 1:
            return order[:, : self.counts[places[0]]].sort(dim=-1).values
        pairs = zip(order, places, strict=True)
        return tuple(head[: self.counts[place]].sort().values for head, place in pairs)

    def _filled(self, mean: float) -> Tensor:
        """(L, H_kv or 1) places in `counts`: the highest price whose mean share is at least `mean`, by bisection."""
        low, high = 1e-12, 1e12
        for _ in range(80):
            price = math.sqrt(low * high)
            if float(self.shares[self._at(price)].mean()) >= mean:
                low = price
            else:
                high = price
        return self._at(low)

    def _at(self, price: float) -> Tensor:
        return (self.losses + price * self.shares).argmin(dim=-1)


def orders(scores: Sequence[Tensor]) -> list[Tensor]:
    """Per layer (H_kv, N), every KV head's tokens from the most to the least important."""
    return [score.argsort(dim=-1, descending=True, stable=True) for score in scores]


def loss_curves(
    region: Region, orders: Sequence[Tensor], counts: Sequence[int], *, head_weight: bool = True
) -> Iterator[Tensor]:
    """Per layer (H_kv, R), what every KV head loses with the first of its `orders` kept, as many as `counts` say."""
    for number, (observed, layer, order) in enumerate(zip(region.observed, region.chunk.layers, orders, strict=True)):
        curves = removal_curves(observed, layer.keys, layer.values, order.to(layer.keys.device), counts)
        curves = curves.to(region.backbone.device)
        if head_weight:
            curves = curves * (region.backbone.head_gains(number) / region.probe.input_power(number))[:, None]
        yield curves


def possible_counts(share: Share) -> list[int]:
    """What a KV head can keep of a part of the context, ascending."""
    return sorted({max(1, share.reserved, round(part * share.tokens)) for part in SHARES})


def _start(earlier: Decision | None) -> float:
    """The share that the chunk before ended with."""
    taken = [trial.ratio for trial in earlier.candidates if trial.accepted] if earlier else []
    return min(taken, default=_START)


def _next(tried: Sequence[Candidate], delta: float, *, least: float) -> float | None:
    """The mean share to try next, None if the last one is near enough or nothing between or beyond is left."""
    last = tried[-1]
    if _NEAR * delta <= last.js <= delta or (last.accepted and last.ratio <= least):
        return None
    below = max((trial for trial in tried if not trial.accepted), key=_ratio, default=None)
    above = min((trial for trial in tried if trial.accepted), key=_ratio, default=None)
    if below is None or above is None:
        wanted = _beyond(tried, delta)
    elif above.ratio < _CLOSE * below.ratio:
        return None  # or even smaller than what was refused, where the divergence is not monotone
    else:
        wanted = _between(below, above, delta, halve=len(tried) > 2 and last.accepted == tried[-2].accepted)
    wanted = min(max(wanted, least), _MOST)
    return None if any(math.isclose(wanted, trial.ratio, rel_tol=0.01) for trial in tried) else wanted


def _ratio(trial: Candidate) -> float:
    return trial.ratio


def _beyond(tried: Sequence[Candidate], delta: float) -> float:
    """All trials are on one side: on along the line through the last two, in logarithms, but no giant step."""
    slope = _SLOPE
    if len(tried) > 1 and tried[-1].ratio != tried[-2].ratio:
        slope = min(_slope(tried[-2], tried[-1]), -0.5)
    step = math.log(max(_AIM * delta, _TINY) / max(tried[-1].js, _TINY)) / slope
    return tried[-1].ratio * math.exp(min(max(step, -math.log(_STEP)), math.log(_STEP)))


def _between(below: Candidate, above: Candidate, delta: float, *, halve: bool) -> float:
    """Where the line through a refused and an accepted trial meets the aim, well inside; or half-way (logarithms)."""
    if halve:  # the line has led to the same side twice, as it does in front of a step
        return math.sqrt(below.ratio * above.ratio)
    step = math.log(max(_AIM * delta, _TINY) / max(below.js, _TINY)) / min(_slope(below, above), -_TINY)
    margin = (above.ratio / below.ratio) ** 0.1
    return min(max(below.ratio * math.exp(step), below.ratio * margin), above.ratio / margin)


def _slope(one: Candidate, other: Candidate) -> float:
    """Of log divergence over log share."""
    return math.log(max(other.js, _TINY) / max(one.js, _TINY)) / math.log(other.ratio / one.ratio)
