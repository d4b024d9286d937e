"""`leave_one_out`: a token matters if a head's output moves without it (DropKV, kvpress pull request 285).

Every token of the probe rows looks, not the answers alone, and the change is exact for a token by itself. Differences:
the rows are this method's probes, where the pull request lets the prompt look at itself.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from emloc.head_outputs import leave_one_out
from emloc.importance.base import Importance
from emloc.region import Region


@dataclass(frozen=True, kw_only=True)
class LeaveOneOut(Importance):
    """How far the outputs of a KV head's query heads move, at all tokens of the probes, if the token is removed."""

    probed: ClassVar[bool] = True
    observing: ClassVar[bool] = True

    def scores(self, region: Region) -> list[Tensor]:
        pairs, place = zip(region.observed, region.chunk.layers, strict=True), region.backbone.device
        return [leave_one_out(observed, layer.keys, layer.values).to(place) for observed, layer in pairs]
