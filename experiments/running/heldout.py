"""What pruning changes on queries that it was not decided with."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import torch

from emloc.backbones.base import Backbone
from emloc.memory import Memory
from emloc.passes import layer_divergences, rows_divergence
from emloc.rows import Row


@dataclass(frozen=True)
class HeldOut:
    """A pruned memory against the whole context, on queries that decided nothing.

    `mean`: JS divergence (nats) at the answer positions. `per_layer`: the same with only the layers from each layer up
    pruned, the first is `mean`; None if it was not asked for. `agreement`: the share of queries that get the same
    answer. `total`: JS divergence (nats) of the demonstrations themselves, asked behind the context as queries are.
    """

    queries: int
    mean: float
    total: float
    per_layer: list[float] | None
    agreement: float


@torch.inference_mode()
def heldout_divergence(
    backbone: Backbone, solved: Sequence[Row], full: Memory, pruned: Memory, *, batch_size: int, layers: bool
) -> list[float]:
    """Mean JS divergence (nats) at the answer positions of solved queries, over the full against the pruned memory.

    With `layers` one number per layer, with only the layers from that one up pruned: the first is that of the whole
    memory. It runs L (L + 3) / 2 layers where the whole memory alone takes 2 L.
    """
    weights, found = [], []
    for start in range(0, len(solved), batch_size):
        rows = solved[start : start + batch_size]
        weights.append(sum(int(row.answers.sum()) for row in rows))
        by_layer = layer_divergences(backbone, rows, full, pruned) if layers else []
        found.append(by_layer or [rows_divergence(backbone, rows, full, pruned)])
    # A batch's figure is a mean over its answer positions, of which batches have different numbers.
    return [fmean(column, weights) for column in zip(*found, strict=True)]


def agreement(one: Sequence[str], other: Sequence[str]) -> float:
    """The share of queries whose two answers are the same text."""
    return fmean(float(a.strip() == b.strip()) for a, b in zip(one, other, strict=True))
