"""The divergence that pruning causes on queries it was not decided with."""

from collections.abc import Sequence

import torch

from emloc.backbones.base import Backbone
from emloc.divergence import js_divergence
from emloc.memory import Memory
from emloc.passes import run_rows
from emloc.prompt import Demonstration
from emloc.rows import RowBatch


@torch.inference_mode()
def heldout_divergence(
    backbone: Backbone, solved: Sequence[Demonstration], full: Memory, pruned: Memory, *, batch_size: int
) -> float:
    """Mean JS divergence (nats) at the answer positions of solved queries, over the full against the pruned memory."""
    found: list[tuple[float, int]] = []
    for start in range(0, len(solved), batch_size):
        batch = RowBatch.stack(backbone.encode(solved[start : start + batch_size]), offset=full.offset)
        logits = [backbone.logits(run_rows(backbone, batch, memory)[batch.answers]) for memory in (full, pruned)]
        found.append((js_divergence(*logits).item(), int(batch.answers.sum())))
    return sum(value * count for value, count in found) / sum(count for _, count in found)
