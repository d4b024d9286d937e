"""Passes over a memory that measure: here how a divergence builds up over the layers."""

from dataclasses import replace
from pathlib import Path

import pytest

from emloc import EMLoC, NoPruning, UserError, load_backbone
from emloc.divergence import js_divergence
from emloc.passes import layer_divergences, rows_divergence, run_rows
from emloc.rows import RowBatch
from tests.support.checkpoints import make_checkpoint
from tests.support.lively import demonstrations


def test_the_divergence_by_layers_is_that_of_half_pruned_memories(tmp_path: Path) -> None:
    backbone = load_backbone(make_checkpoint(tmp_path, layers=3), device="cpu")
    items = demonstrations(6)
    full = NoPruning(chunk_size=4).compress(backbone, items)
    pruned = EMLoC(delta=0.02, chunk_size=4).compress(backbone, items)
    rows = backbone.encode(demonstrations(3, seed=5))
    found = layer_divergences(backbone, rows, full, pruned)
    assert len(set(found)) == 3
    for start, js in enumerate(found):
        mixed = replace(pruned, layers=(*full.layers[:start], *pruned.layers[start:]))
        assert js == pytest.approx(rows_divergence(backbone, rows, full, mixed), abs=1e-7)
    assert found[0] > 1e-4


def test_each_memory_is_asked_at_its_own_end(tmp_path: Path) -> None:
    """One of fewer demonstrations ends earlier: asked behind a gap, it would not answer as it does."""
    backbone = load_backbone(make_checkpoint(tmp_path, layers=3), device="cpu")
    full, fewer = (NoPruning().compress(backbone, demonstrations(count)) for count in (6, 2))
    rows = backbone.encode(demonstrations(3, seed=5))
    batches = [RowBatch.stack(rows, offset=memory.offset) for memory in (full, fewer)]
    logits = [
        backbone.logits(run_rows(backbone, batch, memory)[batch.answers])
        for batch, memory in zip(batches, (full, fewer), strict=True)
    ]
    expected = js_divergence(*logits).item()
    assert rows_divergence(backbone, rows, full, fewer) == pytest.approx(expected, abs=1e-9)
    with pytest.raises(UserError, match="Expected memories of the same context"):
        layer_divergences(backbone, rows, full, fewer)
