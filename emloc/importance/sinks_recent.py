"""`sinks_recent`: the first tokens of the context and the last ones (StreamingLLM, arXiv 2309.17453).

No content is looked at. Differences: the window is that of the finished context, and stays as it is while queries are
answered; kept tokens keep their positions, where the published method numbers what is in the cache from 0. Behind a
memory that was there before (`emloc_video`), the first tokens are those of the new stretch.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from emloc.importance.base import Importance, Scope
from emloc.options import CountOrZero
from emloc.region import Region


@dataclass(frozen=True, kw_only=True)
class SinksRecent(Importance):
    """A token's place in the context; the first `sinks` always stay (published: 4)."""

    scope: ClassVar[Scope] = "context"
    sinks: CountOrZero = 4

    @property
    def reserved(self) -> int:
        return self.sinks

    def scores(self, region: Region) -> list[Tensor]:
        place = torch.arange(region.chunk.tokens, device=region.chunk.row.ids.device, dtype=torch.float32)
        place[: self.sinks] = torch.inf
        return [place.expand(len(layer.lengths), -1).clone() for layer in region.chunk.layers]
