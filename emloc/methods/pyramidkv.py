"""`pyramidkv`: as `snapkv`, with more tokens at the bottom (PyramidKV, arXiv 2406.02069): `window` x `pyramid`.

With the importance `answers` in place of the window it is the paper's own variant of this baseline.
"""

from dataclasses import dataclass
from typing import ClassVar

from emloc.allocation.base import Allocation
from emloc.allocation.pyramid import Pyramid
from emloc.importance.base import Importance
from emloc.importance.window import Window
from emloc.methods.base import Method
from emloc.refit.base import Refit
from emloc.refit.none import NoRefit


@dataclass(frozen=True, kw_only=True)
class PyramidKV(Method):
    """Budgets that fall from bottom to top, their tokens chosen by attention."""

    name: ClassVar[str] = "pyramidkv"
    importance: Importance | None = Window()  # noqa: RUF009 (frozen)
    allocation: Allocation | None = Pyramid()  # noqa: RUF009 (frozen)
    refit: Refit | None = NoRefit()  # noqa: RUF009 (frozen)
