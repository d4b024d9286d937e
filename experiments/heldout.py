"""The divergence that pruning causes on queries it was not decided with."""

from collections.abc import Sequence

import torch

from emloc.backbones.base import Backbone
from emloc.memory import Memory
from emloc.passes import rows_divergence
from emloc.prompt import Demonstration


@torch.inference_mode()
def heldout_divergence(
    backbone: Backbone, solved: Sequence[Demonstration], full: Memory, pruned: Memory, *, batch_size: int
) -> float:
    """Mean JS divergence (nats) at the answer positions of solved queries, over the full against the pruned memory."""
    found: list[tuple[float, int]] = []
    for start in range(0, len(solved), batch_size):
        rows = backbone.encode(solved[start : start + batch_size])
        answers = sum(int(row.answers.sum()) for row in rows)
        found.append((rows_divergence(backbone, rows, full, pruned), answers))
    return sum(value * count for value, count in found) / sum(count for _, count in found)
