"""`expected_attention`: keep what queries to come would look at: `expected_attention` x `uniform` (arXiv 2510.00636).

kvpress can let the KV heads of a layer share its budget around these scores (AdaKV); here each keeps as many.
"""

from dataclasses import dataclass
from typing import ClassVar

from emloc.allocation.base import Allocation
from emloc.allocation.uniform import Uniform
from emloc.importance.base import Importance
from emloc.importance.expected_attention import ExpectedAttention
from emloc.methods.base import Method
from emloc.refit.base import Refit
from emloc.refit.none import NoRefit


@dataclass(frozen=True, kw_only=True)
class ExpectedAttentionKV(Method):
    """The same number of tokens at every layer, chosen by the attention that is expected."""

    name: ClassVar[str] = "expected_attention"
    importance: Importance | None = ExpectedAttention()  # noqa: RUF009 (frozen)
    allocation: Allocation | None = Uniform()  # noqa: RUF009 (frozen)
    refit: Refit | None = NoRefit()  # noqa: RUF009 (frozen)
