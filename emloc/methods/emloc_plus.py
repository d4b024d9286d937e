"""`emloc_plus`: EMLoC's limit, spent where a token is worth most: `leave_one_out` x `water_filling` x `values`.

This project's own method; docs/METHOD.md has its formulas, and what it was measured to do.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

from emloc.allocation.base import Allocation
from emloc.allocation.water_filling import WaterFilling
from emloc.importance.base import Importance
from emloc.importance.leave_one_out import LeaveOneOut
from emloc.methods.base import Method
from emloc.refit.base import Refit
from emloc.refit.values import Values


@dataclass(frozen=True, kw_only=True, init=False)
class EMLoCPlus(Method):
    """Keep as few tokens as the model's own answers allow, each KV head as many as it needs.

    `EMLoCPlus(0.005)` and `EMLoCPlus(delta=0.005)` are short for `EMLoCPlus(allocation=WaterFilling(delta=0.005))`;
    `refit=None` leaves the values that stay as they are.
    """

    name: ClassVar[str] = "emloc_plus"

    def __init__(
        self,
        delta: float | None = None,
        *,
        chunk_size: int = 20,
        probe: Literal["self", "heldout"] = "self",
        probes: Literal["all"] | int = "all",
        importance: Importance = LeaveOneOut(),  # noqa: B008 (frozen)
        allocation: Allocation = WaterFilling(),  # noqa: B008 (frozen)
        refit: Refit | None = Values(),  # noqa: B008 (frozen)
    ) -> None:
        if delta is not None:
            allocation = allocation.limited(delta)
        super().__init__(
            chunk_size=chunk_size,
            probe=probe,
            probes=probes,
            importance=importance,
            allocation=allocation,
            refit=refit,
        )
