"""A stretch of the context that is decided at once, and the instrument that measures what a decision costs.

The chunk loop hands a `Region` to the importance and a `Measure` to the allocation. Methods decide; only what is in
this file measures.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from torch import Tensor

from emloc.attention import KeyValues
from emloc.backbones.base import Backbone
from emloc.divergence import js_divergence
from emloc.head_outputs import Seen
from emloc.memory import Choice, Memory
from emloc.passes import Chunk, Probe
from emloc.rows import Row

NewValues = Sequence[
    Tensor | None
]  # per layer: values in place of those that stay, shaped as they are; None: their own
Kept = Sequence[Choice | None]  # per layer: the entries that stay; None: all of them


@dataclass(frozen=True)
class Probes:
    """Rows that are run over a region to find out what it is needed for.

    `observers` and `compared` are (B, T) bool, the positions whose attention and whose logits count; None: the answers.
    """

    rows: Sequence[Row]
    observers: Tensor | None = None
    compared: Tensor | None = None

    @classmethod
    def joined(cls, parts: Sequence["Probes"]) -> "Probes":
        """The rows of several regions that are decided at once; regions with the same probes are probed once."""
        distinct = list({id(part): part for part in parts}.values())
        if len(distinct) == 1:
            return distinct[0]
        assert all(part.observers is None and part.compared is None for part in distinct), "marks are of one batch"
        return cls([row for part in distinct for row in part.rows])


@dataclass(frozen=True)
class Region:
    """A chunk, or the whole context as one chunk, with every token still there.

    Attributes
    ----------
    chunk
        Its raw keys and values, and the queries of its last tokens if the importance asked for them.
    memory
        What is in front of it.
    probes
        The rows that probe it: its own demonstrations, or the question about a video.
    """

    backbone: Backbone
    chunk: Chunk
    memory: Memory
    probes: Probes

    @cached_property
    def probe(self) -> Probe:
        """The probes run over the whole region: teacher logits, attention, layer inputs. Made when it is first used."""
        return self._probe(observing=False)

    @cached_property
    def observed(self) -> list[Seen]:
        """Per layer, what all tokens of the probes saw of the whole region. Made when it is first used."""
        probe = self._probe(observing=True)
        self.__dict__.setdefault("probe", probe)  # one pass gives both, if this is asked for first
        return probe.observed

    def refitted(
        self, kept: Kept, *, ridge: float, fitted_on: Tensor | None = None
    ) -> tuple[Tensor, list[Tensor | None]]:
        """Logits (A, V) at the compared positions with kept values refitted on some rows ((B,) bool; None: all).

        Also the values. Every layer is fitted on the inputs that the layers below it, refitted, give it.
        """
        layers = [layer.kept(choice) for layer, choice in zip(self.chunk.layers, kept, strict=True)]
        pruned, observed = [choice is not None for choice in kept], self.observed
        return self.probe.refitted(layers, pruned, observed, ridge=ridge, fitted_on=fitted_on)

    def _probe(self, *, observing: bool) -> Probe:
        return Probe(
            self.backbone,
            self.probes.rows,
            self.memory,
            self.chunk,
            observers=self.probes.observers,
            compared=self.probes.compared,
            observing=observing,
        )


@dataclass
class Measure:
    """The divergence that a decision about a region causes: `measure(kept)` in nats, exact and in float32.

    A measurement runs the probes from the lowest layer that differs from the base up. The base is the whole region, or
    the state that was adopted last. `progress` is told of every layer that is decided.
    """

    region: Region
    progress: Callable[[], None] = lambda: None
    _known: list[tuple[Kept, float]] = field(default_factory=list)
    _parts: dict[int, tuple[Choice, KeyValues]] = field(default_factory=dict)
    _base: list[Choice | None] = field(default_factory=list)
    _inputs: list[Tensor] = field(default_factory=list)  # of the layers run by the last measurement, if asked for

    def __post_init__(self) -> None:
        self._base = [None] * len(self.region.chunk.layers)
        self._known.append((tuple(self._base), 0.0))  # a region that is kept whole is its own teacher

    def __call__(self, kept: Kept, *, values: NewValues | None = None, adoptable: bool = False) -> float:
        """Mean JS divergence (nats) at the compared positions, with `kept` against the whole region.

        `values`: in place of those that stay. `adoptable`: keep what `adopt` needs, which takes the memory of one more
        set of layer inputs.
        """
        if values is not None:
            return self._with_values(kept, values)
        known = self.known(kept)
        if known is not None and not adoptable:
            return known
        probe, self._inputs = self.region.probe, []
        logits = probe.rerun(
            self._start(kept),
            [self._part(layer, index) for layer, index in enumerate(kept)],
            inputs=self._inputs if adoptable else None,
        )
        js = js_divergence(probe.reference, logits).item()
        self._known.append((tuple(kept), js))
        return js

    def _with_values(self, kept: Kept, values: NewValues) -> float:
        layers = zip(self.region.chunk.layers, kept, values, strict=True)
        parts = [layer.kept(choice, new).key_values for layer, choice, new in layers]
        probe = self.region.probe
        return js_divergence(probe.reference, probe.rerun(0, parts)).item()

    def adopt(self) -> None:
        """Make the state that was measured last, as adoptable, the base of the measurements to come."""
        kept, _ = self._known[-1]
        self.region.probe.adopt(len(kept) - len(self._inputs), self._inputs)
        self._base = list(kept)

    def known(self, kept: Kept) -> float | None:
        """What this very state, the same tensors, was measured to cost; None if it was not measured."""
        # By identity: comparing the indices would cost more, and a method that builds equal ones is measured again.
        same = (js for state, js in self._known if all(a is b for a, b in zip(state, kept, strict=True)))
        return next(same, None)

    def decided(self, layers: int) -> None:
        """Report progress: so many more layers are decided."""
        for _ in range(layers):
            self.progress()

    def _start(self, kept: Kept) -> int:
        # Below the first difference the probes' hidden states are those of the base, which are stored.
        differing = (layer for layer, index in enumerate(kept) if index is not self._base[layer])
        return next(differing, len(kept) - 1)

    def _part(self, layer: int, index: Choice | None) -> KeyValues:
        """The entries that stay at a layer; selected once for all trials that share them."""
        if index is None:
            return self.region.chunk.layers[layer].key_values
        if layer not in self._parts or self._parts[layer][0] is not index:
            self._parts[layer] = index, self.region.chunk.layers[layer].select(index).key_values
        return self._parts[layer][1]
