"""`answer_attention`: a token matters if the probes' answers look at it; EMLoC's attention as it is.

As `answers`, without its pooling and its bonus for answer tokens. The EMLoC paper scores two of its baselines so
(PyramidInfer and FastGen, reference variants 8 and 9). Summed over answer positions, rows and the query heads of a KV
head, where variant 8 takes the mean: neither a ranking nor a share of the sum depends on that. The rows see the
earlier memory, where those of variant 8 see the chunk alone; it is left out of the softmax in both.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from emloc.importance.base import Importance
from emloc.region import Region


@dataclass(frozen=True, kw_only=True)
class AnswerAttention(Importance):
    """Attention that the probes' answer positions pay to each token."""

    probed: ClassVar[bool] = True

    def scores(self, region: Region) -> list[Tensor]:
        return list(region.probe.attention)
