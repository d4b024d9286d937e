"""What an importance is: a score for every token of a region, per layer and KV head."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from emloc.options import check_options
from emloc.region import Region

Scope = Literal["chunk", "context"]


@dataclass(frozen=True, kw_only=True)
class Importance(ABC):
    """Scores tokens; an allocation decides how many of the best stay.

    `scope` says what a region is: `chunk`, each chunk as soon as it is there, or `context`, all chunks at once after
    the last one. `probed` says whether scores are read off `region.probe`, which costs a forward of all layers.
    """

    scope: ClassVar[Scope] = "chunk"
    probed: ClassVar[bool] = False
    passes: ClassVar[int] = 0  # forwards of all layers over the probes that scoring takes for itself
    observing: ClassVar[bool] = False  # read off `region.observed`, which takes no other forward, but more memory
    averages_tail: ClassVar[bool] = False  # reads means over the tail's queries and forms none of their attention

    def __post_init__(self) -> None:
        check_options(self)

    @property
    def tail_tokens(self) -> int:
        """How many of the context's last tokens it wants the queries of, as `region.chunk.tail`."""
        return 0

    @property
    def reserved(self) -> int:
        """How many tokens of the region stay at any budget. Their score is infinite."""
        return 0

    @abstractmethod
    def scores(self, region: Region) -> list[Tensor]:
        """Per layer scores (H_kv, N) of the region's N tokens: from 0 up, higher for those that matter more."""
