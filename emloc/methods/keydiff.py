"""`keydiff`: keep the keys that are unlike the others (KeyDiff, arXiv 2504.15364): `key_difference` x `uniform`."""

from dataclasses import dataclass
from typing import ClassVar

from emloc.allocation.base import Allocation
from emloc.allocation.uniform import Uniform
from emloc.importance.base import Importance
from emloc.importance.key_difference import KeyDifference
from emloc.methods.base import Method
from emloc.refit.base import Refit
from emloc.refit.none import NoRefit


@dataclass(frozen=True, kw_only=True)
class KeyDiff(Method):
    """The same number of tokens at every layer, those whose keys differ most from the mean; nothing is probed."""

    name: ClassVar[str] = "keydiff"
    importance: Importance | None = KeyDifference()  # noqa: RUF009 (frozen)
    allocation: Allocation | None = Uniform()  # noqa: RUF009 (frozen)
    refit: Refit | None = NoRefit()  # noqa: RUF009 (frozen)
