"""`snapkv`: keep what the end of the context looks at (SnapKV, arXiv 2404.14469): `window` x `uniform`.

With the importance `answers` in place of the window it is the paper's own variant of this baseline.
"""

from dataclasses import dataclass
from typing import ClassVar

from emloc.allocation.base import Allocation
from emloc.allocation.uniform import Uniform
from emloc.importance.base import Importance
from emloc.importance.window import Window
from emloc.methods.base import Method
from emloc.refit.base import Refit
from emloc.refit.none import NoRefit


@dataclass(frozen=True, kw_only=True)
class SnapKV(Method):
    """The same number of tokens at every layer, chosen by attention."""

    name: ClassVar[str] = "snapkv"
    importance: Importance | None = Window()  # noqa: RUF009 (frozen)
    allocation: Allocation | None = Uniform()  # noqa: RUF009 (frozen)
    refit: Refit | None = NoRefit()  # noqa: RUF009 (frozen)
