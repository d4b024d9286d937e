"""Passes over a memory that measure: here how a divergence builds up over the layers."""

from dataclasses import replace
from pathlib import Path

import pytest

from emloc import EMLoC, NoPruning, load_backbone
from emloc.passes import layer_divergences, rows_divergence
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
