"""`streaming`: the first tokens and the last ones (StreamingLLM, arXiv 2309.17453): `sinks_recent` x `uniform`."""

from dataclasses import dataclass
from typing import ClassVar

from emloc.allocation.base import Allocation
from emloc.allocation.uniform import Uniform
from emloc.importance.base import Importance
from emloc.importance.sinks_recent import SinksRecent
from emloc.methods.base import Method
from emloc.refit.base import Refit
from emloc.refit.none import NoRefit


@dataclass(frozen=True, kw_only=True)
class StreamingLLM(Method):
    """The first tokens of the context and as many of its last ones as the budget holds."""

    name: ClassVar[str] = "streaming"
    importance: Importance | None = SinksRecent()  # noqa: RUF009 (frozen)
    allocation: Allocation | None = Uniform()  # noqa: RUF009 (frozen)
    refit: Refit | None = NoRefit()  # noqa: RUF009 (frozen)
