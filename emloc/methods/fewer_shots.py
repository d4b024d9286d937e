"""`fewer_shots`: as many demonstrations as the budget holds, each kept whole, nothing pruned.

What compression has to beat at equal length: MemCom (arXiv 2510.16092) found fewer shots "surprisingly strong". The
demonstrations are the first ones in the order that they were drawn in, which for the datasets here is balanced over
classes. They are prefilled as if the others did not exist.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from emloc.allocation.budget import Budget
from emloc.backbones.base import Backbone
from emloc.methods.base import Method
from emloc.methods.loop import ChunkInput
from emloc.rows import Row


@dataclass(frozen=True, kw_only=True)
class FewerShots(Method):
    """The full context of as many demonstrations as a budget holds.

    Parameters
    ----------
    budget
        Tokens that the context may have, the system turn included: a ratio of what all demonstrations have, a number,
        or `match:PATH/record.json`. It is never exceeded; where it does not hold one demonstration, there are none.
    """

    name: ClassVar[str] = "fewer_shots"
    foreseen: ClassVar[bool] = False
    budget: str | float = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        _ = self._budget  # a budget that cannot be read is refused now

    def chunks(self, backbone: Backbone, rows: Sequence[Row]) -> list[ChunkInput]:
        return super().chunks(backbone, rows[: self._fitting(backbone, rows)])

    def _fitting(self, backbone: Backbone, rows: Sequence[Row]) -> int:
        """How many of the first demonstrations fit in the budget."""
        lengths = itertools.accumulate(map(len, rows), initial=len(backbone.system_row()))
        _, *with_each = lengths
        allowed = self._budget.resolve(with_each[-1]) if with_each else 0
        return sum(length <= allowed for length in with_each)

    @cached_property
    def _budget(self) -> Budget:
        """`budget` as it was on construction: a record that it names is read once, even if the file changes later."""
        return Budget.parse(self.budget)
