"""`key_difference`: a token matters if its key is unlike the others (KeyDiff, arXiv 2504.15364). No probe is needed.

One minus the cosine between a key and the mean of all keys, each of length 1 first, as published; the keys carry their
rotation. The 1 changes no ranking and keeps scores from being negative. Differences: the mean is that of the chunk
that is decided, and a token that was kept is never judged again, where the published method compares all that is in
the cache each time it evicts.
"""

from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import cosine_similarity, normalize

from emloc.importance.base import Importance
from emloc.region import Region


@dataclass(frozen=True, kw_only=True)
class KeyDifference(Importance):
    """How far each key points away from the mean direction of its KV head, from 0 to 2."""

    def scores(self, region: Region) -> list[Tensor]:
        home = region.chunk.row.ids.device  # scores of all layers are compared there
        return [_difference(layer.keys.float()).to(home) for layer in region.chunk.layers]


def _difference(keys: Tensor) -> Tensor:
    """(H_kv, N) of keys (H_kv, N, D)."""
    return 1 - cosine_similarity(keys, normalize(keys, dim=-1).mean(dim=1, keepdim=True), dim=-1)
