"""`pyramidkv`: as `snapkv`, with more tokens at the bottom than at the top (PyramidKV, arXiv 2406.02069)."""

from dataclasses import dataclass
from typing import ClassVar

from emloc.errors import UserError
from emloc.methods.snapkv import SnapKV


@dataclass(frozen=True, kw_only=True)
class PyramidKV(SnapKV):
    """Budgets fall linearly from bottom to top; their mean is `budget`, exactly.

    Parameters
    ----------
    beta
        The top layer gets 1/beta of the mean, the bottom layer 2 - 1/beta (published: 20, tokens beyond the window).

    The published code rounds every step down, which loses up to one token per layer; here the counts add up.
    """

    name: ClassVar[str] = "pyramidkv"
    beta: float = 20.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.beta < 1:
            raise UserError(f"Expected beta >= 1, but got {self.beta}.")

    def layer_weights(self, layers: int) -> list[float]:
        top, bottom = 1 / self.beta, 2 - 1 / self.beta
        steps = max(1, layers - 1)
        return [bottom + (top - bottom) * layer / steps for layer in range(layers)]
