"""What an allocation is: scores in, which tokens stay out."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from emloc.errors import UserError
from emloc.options import check_options
from emloc.region import Kept, Measure


@dataclass(frozen=True)
class Candidate:
    """One trial of a search: keep `tokens` of the region per KV head, at which divergence.

    `layer` is the lowest of those that share the decision.
    """

    layer: int
    ratio: float
    tokens: int
    js: float  # nats
    accepted: bool


@dataclass(frozen=True)
class Share:
    """Which part of the context is decided. All counts are raw tokens.

    `before` are in front of it, `tokens` its own, `total` those of the whole context; `reserved` are those of its own
    that stay at any budget, whose scores are infinite.
    """

    before: int
    tokens: int
    total: int
    reserved: int = 0


@dataclass(frozen=True)
class Decision:
    """Which tokens of every layer stay, and the account of a search, where there was one.

    `layer_js` (nats) is the measured state after each layer's decision, `candidates` are the trials in order. What the
    decision costs in the end is not for the method to say: the chunk loop measures it.
    """

    kept: Kept
    layer_js: tuple[float, ...] = ()
    candidates: tuple[Candidate, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Allocation(ABC):
    """Decides how many of the best tokens stay at every layer."""

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
