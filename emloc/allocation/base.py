"""What an allocation is: scores in, which tokens stay out."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from emloc.errors import UserError
from emloc.memory import MemoryLayer
from emloc.options import check_options
from emloc.passes import Chunk
from emloc.region import Kept, Measure, NewValues


@dataclass(frozen=True)
class Candidate:
    """One trial of a search: keep `tokens` of the region per KV head, at which divergence.

    `layer` is the lowest of those that share the decision. Where KV heads differ, `ratio` and `tokens` are means.
    """

    layer: int
    ratio: float
    tokens: int
    js: float  # nats
    accepted: bool


@dataclass(frozen=True)
class Decision:
    """Which tokens of every layer stay, and the account of a search, where there was one.

    `layer_js` (nats) is the measured state after each layer's decision, `candidates` are the trials in order; `values`
    take the place of the values that stay, where they were refitted, and `crossfit` (nats) is what that was judged by.
    What the decision costs in the end is not for the method to say: the chunk loop measures it.
    """

    kept: Kept
    layer_js: tuple[float, ...] = ()
    candidates: tuple[Candidate, ...] = ()
    values: NewValues | None = None
    crossfit: float | None = None

    @property
    def changes(self) -> bool:
        """Whether anything is other than before: if not, there is nothing to measure."""
        return any(choice is not None for choice in self.kept)

    def layers(self, chunk: Chunk) -> list[MemoryLayer]:
        """What stays of the chunk, layer by layer."""
        values = self.values or [None] * len(self.kept)
        return [layer.kept(choice, new) for layer, choice, new in zip(chunk.layers, self.kept, values, strict=True)]


@dataclass(frozen=True)
class Share:
    """Which part of the context is decided. All counts are raw tokens.

    `before` are in front of it, `tokens` its own, `total` those of the whole context; `reserved` are those of its own
    that stay at any budget, whose scores are infinite. `earlier` is what was decided about the chunk before, if there
    is one: a search may start from there.
    """

    before: int
    tokens: int
    total: int
    reserved: int = 0
    earlier: Decision | None = None

    def portion(self, amount: float) -> int:
        """What this part gets of an amount for the whole context; the portions of all parts add up to it rounded."""
        # The difference of two rounded sums, not a rounded share, which would not add up.
        end = self.before + self.tokens
        return round(amount * end / self.total) - round(amount * self.before / self.total)


@dataclass(frozen=True, kw_only=True)
class Allocation(ABC):
    """Decides how many of the best tokens stay at every layer.

    `judged_as_refitted`: where values are refitted afterwards, its trials are measured with that done. It costs three
    times a plain trial, so an allocation with many trials is better judged by those.
    """

    judged_as_refitted: ClassVar[bool] = False
    observing: ClassVar[bool] = False  # whether it reads `region.observed`

    def __post_init__(self) -> None:
        check_options(self)

    @property
    def limit(self) -> float | None:
        """The divergence (nats) that a decision may cause; None: it is not limited."""
        return None

    def limited(self, delta: float) -> "Allocation":
        """The same with this limit; UserError if it has none."""
        raise UserError(
            f"Expected an allocation with a limit for delta={delta}, but got {self}; leave one of them out."
        )

    def check(self, total: int, reserved: int) -> None:  # noqa: B027 (an optional step, not a forgotten one)
        """Refuse, before any work, a context that cannot be decided: UserError."""

    def trial_forwards(self, layers: int, tokens: int, reserved: int) -> tuple[int, int] | None:
        """Layer forwards that deciding a region of `tokens` takes, (least, most); None: `decide` measures nothing."""
        return None

    def kept(self, layers: int, share: Share) -> tuple[int, int]:
        """Tokens per KV head that stay of a region, (least, most), added up over the layers."""
        return 0, layers * share.tokens

    @abstractmethod
    def decide(self, scores: Sequence[Tensor], share: Share, measure: Measure) -> Decision:
        """Decide from scores (H_kv, N) per layer; `measure(kept)` tells what a choice would cost (nats)."""
