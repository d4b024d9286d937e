"""`pyramid`: more tokens at the bottom than at the top (PyramidKV, arXiv 2406.02069)."""

from dataclasses import dataclass
from typing import Annotated

from emloc.allocation.budget import Scheduled
from emloc.options import Range


@dataclass(frozen=True, kw_only=True)
class Pyramid(Scheduled):
    """Budgets fall linearly from bottom to top; their mean is `budget`, exactly.

    The top layer gets 1/`beta` of the mean, the bottom layer 2 - 1/`beta` (published: 20, tokens beyond the window).
    The published code rounds every step down, which loses up to one token per layer; here the counts add up.
    """

    beta: Annotated[float, Range(1)] = 20.0

    def weights(self, layers: int) -> list[float]:
        top, bottom = 1 / self.beta, 2 - 1 / self.beta
        steps = max(1, layers - 1)
        return [bottom + (top - bottom) * layer / steps for layer in range(layers)]
