"""The divergence that pruning causes on queries it was not decided with."""

from collections.abc import Sequence

import torch

from emloc.backbones.base import Backbone
from emloc.memory import Memory
from emloc.passes import layer_divergences
from emloc.prompt import Demonstration


@torch.inference_mode()
def heldout_divergence(
    backbone: Backbone, solved: Sequence[Demonstration], full: Memory, pruned: Memory, *, batch_size: int
) -> list[float]:
    """Mean JS divergence (nats) at the answer positions of solved queries, over the full against the pruned memory.

    One number per layer, with only the layers from that one up pruned: the first is that of the whole memory.
    """
    sums, answers = [0.0] * backbone.n_layers, 0
    for start in range(0, len(solved), batch_size):
        rows = backbone.encode(solved[start : start + batch_size])
        count = sum(int(row.answers.sum()) for row in rows)
        found = layer_divergences(backbone, rows, full, pruned)
        sums = [total + count * js for total, js in zip(sums, found, strict=True)]
        answers += count
    return [total / answers for total in sums]
