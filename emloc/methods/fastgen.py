"""`fastgen`: every head keeps the kinds of tokens that it attends to (FastGen, arXiv 2310.01801).

`answer_attention` x `policies`: the EMLoC paper's baseline (reference variant 8); `policies` says where it differs.
"""

from dataclasses import dataclass
from typing import ClassVar

from emloc.allocation.base import Allocation
from emloc.allocation.policies import Policies
from emloc.importance.answer_attention import AnswerAttention
from emloc.importance.base import Importance
from emloc.methods.base import Method
from emloc.refit.base import Refit
from emloc.refit.none import NoRefit


@dataclass(frozen=True, kw_only=True)
class FastGen(Method):
    """In every KV head the cheapest of a few kinds of tokens that hold enough of its attention."""

    name: ClassVar[str] = "fastgen"
    importance: Importance | None = AnswerAttention()  # noqa: RUF009 (frozen)
    allocation: Allocation | None = Policies()  # noqa: RUF009 (frozen)
    refit: Refit | None = NoRefit()  # noqa: RUF009 (frozen)
