"""`emloc`: layer-adaptive pruning under a Jensen-Shannon limit (paper section 3; public reference variant 3).

Differences from the public reference, none of which changes a decision in float32: divergences are always float32,
kept tokens are stored in context order instead of score order, a chunk of one demonstration works, and only the
answer positions' attention is ever formed.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from emloc.allocation.layer_search import ORDERS, checked, search_layers
from emloc.backbones.base import Backbone
from emloc.errors import UserError
from emloc.importance.scores import pool_scores, protect
from emloc.methods.base import Context, Method, Pruning
from emloc.passes import Chunk, Probe
from emloc.rows import Row


def probe_scores(probe: Probe, answers: Tensor) -> list[Tensor]:
    """Token scores (H_kv, N) per layer: pooled attention of the probes' answers, answer tokens of the chunk on top."""
    return [protect(pool_scores(attention), answers) for attention in probe.attention]


@dataclass(frozen=True, kw_only=True)
class EMLoC(Method):
    """Prune every layer as far as the model's own answers allow, by default from the top layer down.

    Parameters
    ----------
    delta
        Limit on the Jensen-Shannon divergence (nats) between the probes' answers with the pruned and with the whole
        chunk. One budget per chunk, spent by the upper layers first. 0 keeps everything that matters to the last bit.
    ratios
        Retention ratios tried at every layer, ascending; the first within the limit is taken, else all is kept.
        A ratio that would keep no token of a (short) chunk is not tried.
    order
        `top_down` (the paper's) or `bottom_up`: which layers are decided first, and so may spend most of delta.
    group
        Neighbouring layers that share one decision, a ratio and its trial (the paper's: 1). Each layer and KV head
        still keeps its own tokens. Fewer trials, coarser budgets.
    """

    name: ClassVar[str] = "emloc"
    delta: float = 0.005
    ratios: tuple[float, ...] = (0.1, 0.2, 0.5)
    order: str = "top_down"
    group: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "ratios", checked(self.delta, self.ratios, self.group))
        if self.order not in ORDERS:
            raise UserError(f"Expected order to be one of {', '.join(ORDERS)}, but got {self.order!r}.")

    def prune(
        self, backbone: Backbone, context: Context, chunk: Chunk, rows: Sequence[Row], tick: Callable[[], None]
    ) -> Pruning:
        probe = Probe(backbone, rows, context.memory, chunk)
        scores = probe_scores(probe, chunk.row.answers)
        return search_layers(
            probe, chunk, scores, tick, ratios=self.ratios, delta=self.delta, group=self.group, order=self.order
        )
