"""`window`: a token matters if the end of the context looks at it (SnapKV, arXiv 2404.14469), query-agnostic here.

The published method scores a prompt by the attention of its last tokens, the observation window. Here the prompt is
the demonstrations alone, so one compression answers every query. Differences: scores are summed over the query heads
of a KV head and selection is per KV head, where the published code repeats keys to all query heads.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from emloc.importance.base import Importance, Scope
from emloc.options import Count, OptionError, Range
from emloc.region import Region
from emloc.scores import pool_scores, window_attention


@dataclass(frozen=True, kw_only=True)
class Window(Importance):
    """Attention of the last `window` tokens, which always stay, pooled over `kernel` (an odd number of) tokens."""

    scope: ClassVar[Scope] = "context"
    window: Count = 32
    kernel: Annotated[int, Range(1)] = 5

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.kernel % 2 == 0:
            raise OptionError("kernel", f"an odd number, but got {self.kernel}.")

    @property
    def tail_tokens(self) -> int:
        return self.window

    @property
    def reserved(self) -> int:
        return self.window

    def scores(self, region: Region) -> list[Tensor]:
        home = region.chunk.row.ids.device  # scores of all layers are compared there
        return [
            self._scores(queries, layer.keys).to(home)
            for queries, layer in zip(region.chunk.tail, region.chunk.layers, strict=True)
        ]

    def _scores(self, queries: Tensor, keys: Tensor) -> Tensor:
        scores = pool_scores(window_attention(queries, keys), width=self.kernel)
        # The window itself always stays. It is scored all the same, as the pooling of the tokens before it reads it.
        scores[:, keys.shape[1] - queries.shape[1] :] = torch.inf
        return scores
