"""`emloc`: layer-adaptive pruning under a Jensen-Shannon limit (paper section 3; public reference variant 3).

`answers` x `layer_search`. Differences from the public reference, none of which changes a decision in float32:
divergences are always float32, kept tokens are stored in context order instead of score order, a chunk of one
demonstration works, and only the answer positions' attention is ever formed.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

from emloc.allocation.base import Allocation
from emloc.allocation.layer_search import LayerSearch
from emloc.importance.answers import Answers
from emloc.importance.base import Importance
from emloc.methods.base import Method
from emloc.refit.base import Refit
from emloc.refit.none import NoRefit


@dataclass(frozen=True, kw_only=True, init=False)
class EMLoC(Method):
    """Prune every layer as far as the model's own answers allow.

    `EMLoC(0.005)` and `EMLoC(delta=0.005)` are short for `EMLoC(allocation=LayerSearch(delta=0.005))`; the search has
    more options.
    """

    name: ClassVar[str] = "emloc"

    def __init__(
        self,
        delta: float | None = None,
        *,
        chunk_size: int = 20,
        probe: Literal["self", "heldout"] = "self",
        probes: Literal["all"] | int = "all",
        importance: Importance = Answers(),  # noqa: B008 (frozen)
        allocation: Allocation = LayerSearch(),  # noqa: B008 (frozen)
        refit: Refit | None = NoRefit(),  # noqa: B008 (frozen)
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
