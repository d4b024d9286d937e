"""`pyramidinfer`: fewer tokens in every layer than in the one below (PyramidInfer, arXiv 2405.12532).

`answer_attention` x `cosine`: the EMLoC paper's baseline (reference variant 9), in which the answers of the probes
look. PyramidInfer itself lets the last fifth of the prompt look, later tokens with more weight: the importance
`ensemble` does that. `cosine` says how else it differs.
"""

from dataclasses import dataclass
from typing import ClassVar

from emloc.allocation.base import Allocation
from emloc.allocation.cosine import Cosine
from emloc.importance.answer_attention import AnswerAttention
from emloc.importance.base import Importance
from emloc.methods.base import Method
from emloc.refit.base import Refit
from emloc.refit.none import NoRefit


@dataclass(frozen=True, kw_only=True)
class PyramidInfer(Method):
    """Budgets that fall along a cosine from bottom to top, their tokens chosen by the answers' attention."""

    name: ClassVar[str] = "pyramidinfer"
    importance: Importance | None = AnswerAttention()  # noqa: RUF009 (frozen)
    allocation: Allocation | None = Cosine()  # noqa: RUF009 (frozen)
    refit: Refit | None = NoRefit()  # noqa: RUF009 (frozen)
