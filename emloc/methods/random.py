"""`random`: tokens by chance, each KV head its own: `random` x `uniform`."""

from dataclasses import dataclass
from typing import ClassVar

from emloc.allocation.base import Allocation
from emloc.allocation.uniform import Uniform
from emloc.importance.base import Importance
from emloc.importance.random import RandomScores
from emloc.methods.base import Method
from emloc.refit.base import Refit
from emloc.refit.none import NoRefit


@dataclass(frozen=True, kw_only=True)
class RandomTokens(Method):
    """The same number of tokens at every layer, whichever they are: the least that a method has to beat."""

    name: ClassVar[str] = "random"
    importance: Importance | None = RandomScores()  # noqa: RUF009 (frozen)
    allocation: Allocation | None = Uniform()  # noqa: RUF009 (frozen)
    refit: Refit | None = NoRefit()  # noqa: RUF009 (frozen)
