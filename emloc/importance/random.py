"""`random`: chance decides. What any importance has to beat, and the usual lower baseline (kvpress RandomPress)."""

import random
from dataclasses import dataclass

import torch
from torch import Tensor

from emloc.importance.base import Importance
from emloc.options import CountOrZero
from emloc.region import Region


@dataclass(frozen=True, kw_only=True)
class RandomScores(Importance):
    """Numbers from 0 to 1, drawn for every layer and KV head; the same at every call for the same place in a context.

    Parameters
    ----------
    seed
        Another one makes another draw.
    """

    seed: CountOrZero = 0

    def scores(self, region: Region) -> list[Tensor]:
        # By way of Python's own, which hashes a text: torch's generator reads only the lowest 32 bits of a number.
        drawn = random.Random(f"{self.seed} {region.memory.tokens_seen}").getrandbits(32)
        generator = torch.Generator().manual_seed(drawn)
        shape, home = region.chunk.layers[0].index.shape, region.chunk.row.ids.device
        return [torch.rand(shape, generator=generator).to(home) for _ in region.chunk.layers]
