"""The search of `emloc`: how much of a chunk every layer keeps, decided one group of layers after the other."""

from collections.abc import Callable, Sequence

from torch import Tensor

from emloc.divergence import js_divergence
from emloc.importance import top_indices
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
