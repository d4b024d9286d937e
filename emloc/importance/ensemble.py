"""`ensemble`: a token matters if the end of the context looks at it (PyramidInfer, arXiv 2405.12532).

As published: the attention of the last tokens, averaged over all heads of a layer, which so keep the same tokens. The
weights of these tokens rise evenly, from 1 to `distance_weight`; they always stay, and so do the first `sinks`.

Differences: the tokens that look are a number of them, as a budget is, where the published ones are a fifth of the
prompt; and all layers see the whole prompt, which the published method cuts from layer to layer as it is run.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from emloc.importance.base import Importance, Scope
from emloc.options import Count, CountOrZero, Range
from emloc.region import Region
from emloc.scores import window_attention


@dataclass(frozen=True, kw_only=True)
class Ensemble(Importance):
    """Mean attention over all heads of the last `window` tokens, the last of them weighted by `distance_weight`."""

    scope: ClassVar[Scope] = "context"
    window: Count = 32
    sinks: CountOrZero = 4
    distance_weight: Annotated[float, Range(0, above=True)] = 1.2

    @property
    def tail_tokens(self) -> int:
        return self.window

    @property
    def reserved(self) -> int:
        return self.sinks + self.window

    def scores(self, region: Region) -> list[Tensor]:
        home = region.chunk.row.ids.device  # scores of all layers are compared there
        pairs = zip(region.chunk.tail, region.chunk.layers, strict=True)
        return [self._scores(queries, layer.keys).to(home) for queries, layer in pairs]

    def _scores(self, queries: Tensor, keys: Tensor) -> Tensor:
        looking = torch.linspace(1, self.distance_weight, queries.shape[1], device=queries.device)
        mean = window_attention(queries, keys, looking).sum(0) / (queries.shape[0] * queries.shape[1])
        mean[: self.sinks] = torch.inf
        mean[keys.shape[1] - queries.shape[1] :] = torch.inf
        return mean.expand(len(keys), -1).clone()
