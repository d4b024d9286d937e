"""The search of EMLoC: how much of a chunk every layer keeps, decided one group of layers after the other."""

import math
from collections.abc import Callable, Sequence

from torch import Tensor

from emloc.divergence import LN2, js_divergence
from emloc.errors import UserError
from emloc.importance.scores import top_indices
from emloc.memory import MemoryLayer
from emloc.methods.base import Candidate, Pruning
from emloc.passes import Chunk, Probe

# How each order walks through the layers, 0 being the lowest.
ORDERS: dict[str, Callable[[range], Sequence[int]]] = {
    "top_down": lambda layers: layers[::-1],
    "bottom_up": lambda layers: layers,
}


def layer_groups(layers: int, *, order: str, size: int) -> list[list[int]]:
    """The layers in groups of `size`, in the order of decision; the last group takes what is left."""
    walk = ORDERS[order](range(layers))
    return [sorted(walk[at : at + size]) for at in range(0, layers, size)]


def checked(delta: float, ratios: Sequence[float], group: int) -> tuple[float, ...]:
    """The ratios, as numbers; UserError if a search cannot use one of the three."""
    if not 0 <= delta <= LN2 or math.isnan(delta):
        raise UserError(f"Expected delta between 0 and ln 2 = 0.6931 (nats), but got {delta}.")
    numbers = tuple(float(ratio) for ratio in ratios)
    if not numbers or list(numbers) != sorted(set(numbers)) or not all(0 < ratio <= 1 for ratio in numbers):
        raise UserError(
            f"Expected ascending retention ratios in (0, 1], such as [0.1,0.2,0.5], but got {list(numbers)}."
        )
    if group < 1:
        raise UserError(f"Expected group of at least 1 layer, but got {group}.")
    return numbers


def search_layers(
    probe: Probe,
    chunk: Chunk,
    scores: Sequence[Tensor],  # per layer (H_kv, N)
    tick: Callable[[], None],
    *,
    ratios: Sequence[float],
    delta: float,
    group: int,
    order: str = "top_down",
) -> Pruning:
    """What every layer keeps of the chunk: the best by `scores`, as few as the limit allows; `tick` once per layer."""
    search = LayerSearch(probe, chunk, scores, order=order)
    for layers in layer_groups(len(scores), order=order, size=group):
        search.decide(layers, ratios, delta)
        for _ in layers:
            tick()
    return search.result()


class LayerSearch:
    """The state of one chunk's search: what every layer keeps so far, and the divergence of that state.

    A trial runs from the group's lowest layer to the top, over the layers above as they are: pruned already from the
    top down, still whole from the bottom up. Its start is that layer's input in the present state. From the top down
    this is the teacher's, as nothing below is pruned. From the bottom up the accepted trial's own inputs take its
    place; where every ratio is rejected the present ones stay right. (The public reference's bottom-up variant leaves
    a rejected layer out: the next layer is tried on that layer's input instead of its output.)
    """

    def __init__(self, probe: Probe, chunk: Chunk, scores: Sequence[Tensor], *, order: str) -> None:
        self._probe = probe
        self._upwards = order == "bottom_up"  # then layers above a decision have yet to be tried on its output
        self._whole = chunk.layers
        self._scores = scores
        self._state: list[MemoryLayer] = list(chunk.layers)
        self._kept: list[Tensor | None] = [None] * len(scores)
        self._js = 0.0
        self._layer_js = [0.0] * len(scores)
        self._tried: list[Candidate] = []

    def decide(self, group: Sequence[int], ratios: Sequence[float], delta: float) -> None:
        """Take the smallest ratio within the limit at these layers; all others stay as they are."""
        for ratio in ratios:
            count = int(self._whole[group[0]].length * ratio)
            if count and self._accepts(group, ratio, count, delta):
                break
        for layer in group:
            self._layer_js[layer] = self._js

    def result(self) -> Pruning:
        """The chunk's final state. Its divergence is that of the last accepted trial, which was this very state."""
        return Pruning(self._kept, self._js, tuple(self._layer_js), tuple(self._tried))

    def _accepts(self, group: Sequence[int], ratio: float, count: int, delta: float) -> bool:
        chosen = {layer: top_indices(self._scores[layer], count) for layer in group}
        trial = [*self._state]
        for layer, index in chosen.items():
            trial[layer] = self._whole[layer].select(index)
        inputs: list[Tensor] | None = [] if self._upwards else None
        logits = self._probe.rerun(group[0], [part.key_values for part in trial], inputs=inputs)
        js = js_divergence(self._probe.reference, logits).item()
        accepted = js <= delta
        self._tried.append(Candidate(group[0], ratio, count, js, accepted))
        if accepted:
            self._state, self._js = trial, js
            for layer, index in chosen.items():
                self._kept[layer] = index
            if inputs is not None:
                self._probe.adopt(group[0], inputs)
        return accepted
