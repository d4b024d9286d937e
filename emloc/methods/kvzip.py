"""`kvzip`: keep what repeating the context looks at (KVzip, arXiv 2505.23416): `repetition` x `global_threshold`."""

from dataclasses import dataclass
from typing import ClassVar

from emloc.allocation.base import Allocation
from emloc.allocation.global_threshold import GlobalThreshold
from emloc.importance.base import Importance
from emloc.importance.repetition import Repetition
from emloc.methods.base import Method
from emloc.refit.base import Refit
from emloc.refit.none import NoRefit


@dataclass(frozen=True, kw_only=True)
class KVzip(Method):
    """The tokens that any repeated token looks at most, wherever in the model they are."""

    name: ClassVar[str] = "kvzip"
    importance: Importance | None = Repetition()  # noqa: RUF009 (frozen)
    allocation: Allocation | None = GlobalThreshold()  # noqa: RUF009 (frozen)
    refit: Refit | None = NoRefit()  # noqa: RUF009 (frozen)
