"""`layer_search`: as few tokens per layer as a limit on the divergence allows, one layer after the other (EMLoC).

Paper section 3.3; public reference variants 3 (top down, each layer by itself) and 6 (groups of layers, for video).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Literal

from torch import Tensor

from emloc.allocation.base import Allocation, Candidate, Decision, Share
from emloc.divergence import LN2
from emloc.options import Count, OptionError, Range
from emloc.region import Measure
from emloc.scores import top_indices

Order = Literal["top_down", "bottom_up"]
# How each order walks through the layers, 0 being the lowest.
ORDERS: dict[Order, Callable[[range], Sequence[int]]] = {
    "top_down": lambda layers: layers[::-1],
    "bottom_up": lambda layers: layers,
}
_EXAMPLE = "such as [0.1,0.2,0.5]"


@dataclass(frozen=True, kw_only=True)
class LayerSearch(Allocation):
    """Prune every layer as far as the model's own answers allow, by default from the top layer down.

    Parameters
    ----------
    delta
        Limit on the Jensen-Shannon divergence (nats) between the probes' answers with the pruned and with the whole
        region. One limit per region, spent by the layers that are decided first. 0 keeps everything that matters to
        the last bit.
    ratios
        Retention ratios tried at every layer, ascending; the first within the limit is taken, else all is kept.
        A ratio that would keep no token of a (short) region, or fewer than are reserved, is not tried.
    order
        `top_down` (the paper's) or `bottom_up`: which layers are decided first, and so may spend most of delta.
    group
        Neighbouring layers that share one decision, a ratio and its trial (the paper's: 1). Each layer and KV head
        still keeps its own tokens. Fewer trials, coarser budgets.
    """

    delta: Annotated[float, Range(0, LN2, note="nats, at most ln 2")] = 0.005
    ratios: tuple[Annotated[float, Range(0, 1, above=True)], ...] = (0.1, 0.2, 0.5)
    order: Order = "top_down"
    group: Count = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.ratios or list(self.ratios) != sorted(set(self.ratios)):
            raise OptionError("ratios", f"ascending retention ratios, {_EXAMPLE}, but got {list(self.ratios)}.")
        object.__setattr__(self, "ratios", tuple(map(float, self.ratios)))

    @property
    def limit(self) -> float:
        return self.delta

    def limited(self, delta: float) -> "LayerSearch":
        return replace(self, delta=delta)

    def check(self, total: int, reserved: int) -> None:
        largest = max(self.ratios)
        if total and total * largest < 1:
            raise OptionError(
                "ratios",
                f"large enough to keep a token, but the largest, {largest:g}, keeps none of the context's {total}.",
            )

    def trial_forwards(self, layers: int, tokens: int, reserved: int) -> tuple[int, int]:
        """A trial runs from its group's lowest layer up; every group takes one at least, one per ratio at most."""
        once = sum(layers - min(group) for group in layer_groups(layers, order=self.order, size=self.group))
        tried = len(self._counts(tokens, reserved))
        return once * min(1, tried), once * tried

    def kept(self, layers: int, share: Share) -> tuple[int, int]:
        return layers * min([*self._counts(share.tokens, share.reserved), share.tokens]), layers * share.tokens

    def _counts(self, tokens: int, reserved: int) -> list[int]:
        """What the ratios that are tried keep of a region, ascending; see `ratios`."""
        counts = [int(tokens * ratio) for ratio in self.ratios]
        return [count for count in counts if count >= max(1, reserved)]

    def decide(self, scores: Sequence[Tensor], share: Share, measure: Measure) -> Decision:
        search = _Search(scores, measure, least=max(1, share.reserved), upwards=self.order == "bottom_up")
        for layers in layer_groups(len(scores), order=self.order, size=self.group):
            search.decide(layers, self.ratios, self.delta)
            measure.decided(len(layers))
        return search.result()


def layer_groups(layers: int, *, order: Order, size: int) -> list[list[int]]:
    """The layers in groups of `size`, in the order of decision; the last group takes what is left."""
    walk = ORDERS[order](range(layers))
    return [sorted(walk[at : at + size]) for at in range(0, layers, size)]


class _Search:
    """The state of one region's search: what every layer keeps so far, and the divergence of that state.

    A trial runs from the group's lowest layer to the top, over the layers above as they are: pruned already from the
    top down, still whole from the bottom up. Its start is that layer's input in the present state. From the top down
    this is the teacher's, as nothing below is pruned. From the bottom up the accepted trial's own inputs take its
    place; where every ratio is rejected the present ones stay right. (The public reference's bottom-up variant leaves
    a rejected layer out: the next layer is tried on that layer's input instead of its output.)
    """

    def __init__(self, scores: Sequence[Tensor], measure: Measure, *, least: int, upwards: bool) -> None:
        self._scores = scores
        self._measure = measure
        self._least = least  # tokens per KV head
        self._upwards = upwards
        self._kept: list[Tensor | None] = [None] * len(scores)
        self._js = 0.0
        self._layer_js = [0.0] * len(scores)
        self._tried: list[Candidate] = []

    def decide(self, group: Sequence[int], ratios: Sequence[float], delta: float) -> None:
        """Take the smallest ratio within the limit at these layers; all others stay as they are."""
        for ratio in ratios:
            count = int(self._scores[group[0]].shape[-1] * ratio)
            if count >= self._least and self._accepts(group, ratio, count, delta):
                break
        for layer in group:
            self._layer_js[layer] = self._js

    def result(self) -> Decision:
        """The region's final state, which is that of the last accepted trial."""
        return Decision(self._kept, tuple(self._layer_js), tuple(self._tried))

    def _accepts(self, group: Sequence[int], ratio: float, count: int, delta: float) -> bool:
        trial = [*self._kept]
        for layer in group:
            trial[layer] = top_indices(self._scores[layer], count)
        js = self._measure(trial, adoptable=self._upwards)
        accepted = js <= delta
        self._tried.append(Candidate(group[0], ratio, count, js, accepted))
        if accepted:
            self._kept, self._js = trial, js
            if self._upwards:
                self._measure.adopt()
        return accepted
