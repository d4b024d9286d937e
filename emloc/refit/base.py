"""What a refit is: a decision with other values for the tokens that stay."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from emloc.allocation.base import Allocation, Decision, Share
from emloc.options import check_options
from emloc.region import Measure


@dataclass(frozen=True, kw_only=True)
class Refit(ABC):
    """Changes the values of what an allocation keeps. `observing`: whether it reads `region.observed`."""

    observing: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_options(self)

    def forwards(self, layers: int, trials: int, *, judging: bool) -> int | None:
        """Layer forwards that it takes at most beside an allocation whose search takes as many as `trials`.

        `judging`: the search's trials are judged as refitted. None: it runs nothing.
        """
        return None

    @abstractmethod
    def decide(self, allocation: Allocation, scores: Sequence[Tensor], share: Share, measure: Measure) -> Decision:
        """The allocation's decision from scores (H_kv, N) per layer, with values in place of those that stay."""
