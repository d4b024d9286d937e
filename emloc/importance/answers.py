"""`answers`: a token matters if the probes' answers look at it (EMLoC, paper section 3.2, reference variant 3)."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from emloc.importance.base import Importance
from emloc.region import Region
from emloc.scores import pool_scores, protect


@dataclass(frozen=True, kw_only=True)
class Answers(Importance):
    """Attention that the probes' answer positions pay to each token, pooled; the chunk's answer tokens come first."""

    probed: ClassVar[bool] = True

    def scores(self, region: Region) -> list[Tensor]:
        answers = region.chunk.row.answers
        return [protect(pool_scores(attention), answers) for attention in region.probe.attention]
