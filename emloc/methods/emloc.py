"""`emloc`: layer-adaptive pruning under a Jensen-Shannon limit (paper section 3; public reference variant 3).

`answers` x `layer_search`. Differences from the public reference, none of which changes a decision in float32:
divergences are always float32, kept tokens are stored in context order instead of score order, a chunk of one
demonstration works, and only the answer positions' attention is ever formed.
"""

from dataclasses import dataclass
from typing import ClassVar

from emloc.allocation.base import Allocation
from emloc.allocation.layer_search import LayerSearch
from emloc.importance.answers import Answers
from emloc.importance.base import Importance
from emloc.methods.base import LimitedMethod
from emloc.refit.base import Refit
from emloc.refit.none import NoRefit


@dataclass(frozen=True, kw_only=True)
class EMLoC(LimitedMethod):
    """Prune every layer as far as the model's own answers allow.

    `EMLoC(0.005)` and `EMLoC(delta=0.005)` are short for `EMLoC(allocation=LayerSearch(delta=0.005))`; the search has
    more options.
    """

    name: ClassVar[str] = "emloc"
    importance: Importance | None = Answers()  # noqa: RUF009 (frozen)
    allocation: Allocation | None = LayerSearch()  # noqa: RUF009 (frozen)
    refit: Refit | None = NoRefit()  # noqa: RUF009 (frozen)
