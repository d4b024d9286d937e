"""`expected_attention`: a token matters if a query to come would look at it (Expected Attention, arXiv 2510.00636).

Queries before their rotation are taken to be normal, with the mean mu and covariance S of those that the context's own
tokens have. R is the mean rotation of the next `future` positions. A token's score is the softmax over tokens of
mu R k / sqrt(D) + k R S R k / 2D, the logarithm of the expected exp(q k), averaged over the query heads of a group and
times |v|. As published, the first `sinks` tokens always stay and are in no statistic.

Differences: the rotation is undone on the queries themselves, which needs nothing of a family's own code; tokens of
images are left out of the statistics, as queries and answers are text; R starts behind the context's last position,
which is less than its number of tokens where images are folded.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from emloc.importance.base import Importance, Scope
from emloc.options import Count, CountOrZero
from emloc.prompt import TokenKind
from emloc.region import Region

_ALL = 2**31  # more tokens than any context has


@dataclass(frozen=True, kw_only=True)
class ExpectedAttention(Importance):
    """Attention that queries at the next `future` positions are expected to pay, times the length of the value."""

    scope: ClassVar[Scope] = "context"
    averages_tail: ClassVar[bool] = True
    sinks: CountOrZero = 4
    future: Count = 512

    @property
    def tail_tokens(self) -> int:
        return _ALL

    @property
    def reserved(self) -> int:
        return self.sinks

    def scores(self, region: Region) -> list[Tensor]:
        row, home = region.chunk.row, region.chunk.row.ids.device
        text = (row.kinds != TokenKind.IMAGE) & (torch.arange(len(row), device=home) >= self.sinks)
        at = text.nonzero()[:, 0]
        turned = _angles(region, row.positions[:, at] + region.memory.offset)
        ahead = torch.arange(region.chunk.offset, region.chunk.offset + self.future, device=home)
        rotation = _matrix(*(part.mean(0) for part in _angles(region, ahead.expand(len(row.positions), -1))))
        found = []
        for queries, layer in zip(region.chunk.tail, region.chunk.layers, strict=True):
            here = queries.device  # layers may be on other devices than the rows
            asked = unrotated(queries[:, at.to(here)].float(), *(part.to(here) for part in turned))
            found.append(self._scores(asked, layer.keys.float(), layer.values.float(), rotation.to(here)).to(home))
        return found

    def _scores(self, queries: Tensor, keys: Tensor, values: Tensor, rotation: Tensor) -> Tensor:
        rest = expected(queries, keys[:, self.sinks :], rotation) * values[:, self.sinks :].norm(dim=-1)
        return torch.nn.functional.pad(rest, (keys.shape[1] - rest.shape[1], 0), value=torch.inf)


def expected(queries: Tensor, keys: Tensor, rotation: Tensor) -> Tensor:
    """Expected attention (H_kv, N) of queries like (H_q, W, D), not rotated, that `rotation` (D, D) turns."""
    kv_heads, _, size = keys.shape
    mean = queries.mean(dim=1)  # (H_q, D)
    centred = queries - mean[:, None]
    spread = rotation @ (centred.transpose(1, 2) @ centred / queries.shape[1]) @ rotation.T
    grouped = keys.repeat_interleave(len(queries) // kv_heads, dim=0)  # (H_q, N, D)
    logits = (grouped @ (mean @ rotation.T)[..., None])[..., 0] / math.sqrt(size)
    logits = logits + ((grouped @ spread) * grouped).sum(-1) / (2 * size)
    return logits.softmax(-1).unflatten(0, (kv_heads, -1)).mean(1)


def _angles(region: Region, positions: Tensor) -> tuple[Tensor, Tensor]:
    """Cosines and sines (W, D) of the rotations at positions (P, W) of text, whose axes are equal."""
    hidden = torch.empty(1, 0, dtype=torch.float32, device=positions.device)
    cos, sin = region.backbone.rotation(hidden, positions[:, None])
    return cos.flatten(0, -3)[0], sin.flatten(0, -3)[0]


def _matrix(cos: Tensor, sin: Tensor) -> Tensor:
    """The rotation (D, D) with cosines and sines (D,): rotary angles turn the first half with the second."""
    quarter_turn = torch.eye(len(cos), device=cos.device).roll(len(cos) // 2, dims=0)  # (x, y) -> (y, x)
    quarter_turn[: len(cos) // 2] *= -1
    return torch.diag(cos) + sin[:, None] * quarter_turn


def unrotated(queries: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Queries (H_q, W, D) as they were before rotations with these cosines and sines (W, D)."""
    first, second = queries.chunk(2, dim=-1)
    back = queries * cos - torch.cat([-second, first], dim=-1) * sin
    return back / (cos.square() + sin.square())  # which is not 1 where a rotation also stretches, as yarn's does
