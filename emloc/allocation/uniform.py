"""`uniform`: as many tokens at every layer (SnapKV, arXiv 2404.14469)."""

from dataclasses import dataclass

from emloc.allocation.budget import Scheduled


@dataclass(frozen=True, kw_only=True)
class Uniform(Scheduled):
    """The budget at every layer."""

    def weights(self, layers: int) -> list[float]:
        return [1.0] * layers
