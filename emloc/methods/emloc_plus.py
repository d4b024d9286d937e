"""`emloc_plus`: EMLoC's limit, spent where a token is worth most: `leave_one_out` x `water_filling` x `values`.

This project's own method; docs/METHOD.md has its formulas, and what it was measured to do.
"""

from dataclasses import dataclass
from typing import ClassVar

from emloc.allocation.base import Allocation
from emloc.allocation.water_filling import WaterFilling
from emloc.importance.base import Importance
from emloc.importance.leave_one_out import LeaveOneOut
from emloc.methods.base import LimitedMethod
from emloc.refit.base import Refit
from emloc.refit.values import Values


@dataclass(frozen=True, kw_only=True)
class EMLoCPlus(LimitedMethod):
    """Keep as few tokens as the model's own answers allow, each KV head as many as it needs.

    `EMLoCPlus(0.005)` and `EMLoCPlus(delta=0.005)` are short for `EMLoCPlus(allocation=WaterFilling(delta=0.005))`;
    `refit=None` leaves the values that stay as they are.
    """

    name: ClassVar[str] = "emloc_plus"
    importance: Importance | None = LeaveOneOut()  # noqa: RUF009 (frozen)
    allocation: Allocation | None = WaterFilling()  # noqa: RUF009 (frozen)
    refit: Refit | None = Values()  # noqa: RUF009 (frozen)
