"""Refitted values: judged by rows that they were not fitted on, left out where they do not help, and marked."""

from pathlib import Path

import pytest
import torch

from emloc import EMLoCPlus, LeaveOneOut, Memory, Method, Uniform, Values
from emloc.backbones.base import Backbone
from emloc.divergence import js_divergence
from emloc.methods.base import _chunk
from emloc.passes import prefill
from emloc.refit.values import CrossFitted
from emloc.region import Measure, Probes, Region
from emloc.rows import concatenate
from tests.support.lively import demonstrations, lively_backbone, queries

ROWS = 6


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return lively_backbone(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="module")
def region(backbone: Backbone) -> Region:
    rows = backbone.encode(demonstrations(ROWS))
    given = _chunk(backbone, rows, Probes(rows), first=0)
    memory = backbone.empty_memory()
    return Region(backbone, prefill(backbone, concatenate(given.turns), memory), memory, given.probes)


@pytest.fixture(scope="module")
def kept(region: Region) -> list[torch.Tensor]:
    return [torch.arange(0, region.chunk.tokens, 3).expand(2, -1) for _ in region.chunk.layers]


def test_a_fold_is_fitted_on_its_own_rows_alone(region: Region, kept: list[torch.Tensor]) -> None:
    """The values are those of a region that has no other probes."""
    even = torch.arange(ROWS) % 2 == 0
    _, values = region.refitted(kept, ridge=0.01, fitted_on=even)
    alone = Region(region.backbone, region.chunk, region.memory, Probes(region.probes.rows[::2]))
    _, expected = alone.refitted(kept, ridge=0.01)
    for ours, theirs in zip(values, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)


def test_the_cross_fit_joins_what_each_fold_makes_of_the_other(region: Region, kept: list[torch.Tensor]) -> None:
    even = torch.arange(ROWS) % 2 == 0
    parts = []
    for fold in (even, ~even):
        _, values = region.refitted(kept, ridge=0.003, fitted_on=fold)
        layers = [layer.kept(*pair) for layer, *pair in zip(region.chunk.layers, kept, values, strict=True)]
        logits = region.probe.rerun(0, [layer.key_values for layer in layers])
        unseen = ~fold[region.probe.compared_rows]
        parts.append((js_divergence(region.probe.reference[unseen], logits[unseen]).item(), int(unseen.sum())))
    expected = sum(js * count for js, count in parts) / sum(count for _, count in parts)
    assert CrossFitted(region)(kept) == pytest.approx(expected, rel=1e-3)


def test_refitting_helps_and_the_loop_measures_the_values_that_stay(backbone: Backbone) -> None:
    common = {"importance": LeaveOneOut(), "allocation": Uniform(budget=0.3), "chunk_size": ROWS}
    plain, fitted = (Method(**common, refit=refit).trace(backbone, demonstrations(ROWS)) for refit in (None, Values()))
    assert fitted.memory.lengths == plain.memory.lengths
    assert fitted.memory.refitted
    assert not plain.memory.refitted
    (chunk,), (before,) = fitted.chunks, plain.chunks
    assert chunk.js < (chunk.crossfit or 0) < before.js
    assert before.crossfit is None
    for ours, theirs in zip(fitted.memory.layers, plain.memory.layers, strict=True):
        assert torch.equal(ours.keys, theirs.keys)
        assert not torch.equal(ours.values, theirs.values)


def test_a_fit_that_does_not_help_on_rows_left_out_is_left_out(backbone: Backbone) -> None:
    """A single probe leaves nothing to judge by; and where everything stays there is nothing to make up for."""
    for shots, budget in ((1, 0.3), (4, 1.0)):
        method = Method(importance=LeaveOneOut(), allocation=Uniform(budget=budget), refit=Values(), chunk_size=4)
        trace = method.trace(backbone, demonstrations(shots))
        assert trace.chunks[0].crossfit is None
        assert not trace.memory.refitted


def test_a_refitted_memory_survives_its_file_and_says_so(backbone: Backbone, tmp_path: Path) -> None:
    trace = EMLoCPlus(delta=0.05, chunk_size=ROWS).trace(backbone, demonstrations(ROWS))
    memory = trace.memory
    assert memory.refitted
    memory.save(tmp_path / "memory.safetensors")
    loaded = Memory.load(tmp_path / "memory.safetensors", backbone)
    assert loaded.refitted
    assert [layer.counts for layer in loaded.layers] == [layer.counts for layer in memory.layers]
    assert any(layer.counts for layer in loaded.layers), "heads of different lengths are what must survive"
    asked = queries(4)
    assert backbone.answer(asked, loaded, max_new_tokens=4) == backbone.answer(asked, memory, max_new_tokens=4)


def test_trials_are_judged_by_the_cross_fit(backbone: Backbone) -> None:
    trace = EMLoCPlus(delta=0.05, chunk_size=ROWS).trace(backbone, demonstrations(ROWS))
    (chunk,) = trace.chunks
    taken = min((trial for trial in chunk.candidates if trial.accepted), key=lambda trial: trial.ratio)
    assert chunk.crossfit == taken.js <= 0.05
    assert chunk.refitted


def test_without_a_cross_fit_trials_are_judged_on_the_rows_they_were_fitted_on(backbone: Backbone) -> None:
    method = EMLoCPlus(delta=0.05, chunk_size=ROWS, refit=Values(crossfit=False))
    trace = method.trace(backbone, demonstrations(ROWS))
    (chunk,) = trace.chunks
    taken = min((trial for trial in chunk.candidates if trial.accepted), key=lambda trial: trial.ratio)
    assert chunk.refitted
    assert chunk.crossfit is None, "no probe was left out"
    assert chunk.js == pytest.approx(taken.js, rel=1e-3), "what is stored is what was tried, fitted on all rows"
    judged = EMLoCPlus(delta=0.05, chunk_size=ROWS).trace(backbone, demonstrations(ROWS))
    first, other = chunk.candidates[0], judged.chunks[0].candidates[0]
    assert first.ratio == other.ratio
    assert first.js < other.js, "the same choice, but a fit looks better on its own rows"
    assert trace.deciding.layer_forwards < judged.deciding.layer_forwards


def test_a_single_probe_can_be_fitted_where_none_is_left_out(backbone: Backbone) -> None:
    refit = Values(crossfit=False)
    method = Method(importance=LeaveOneOut(), allocation=Uniform(budget=0.3), refit=refit, chunk_size=4)
    assert method.trace(backbone, demonstrations(1)).chunks[0].refitted


def test_a_measure_of_whole_regions_is_zero(region: Region) -> None:
    whole = [None] * len(region.chunk.layers)
    assert CrossFitted(region)(whole) == Measure(region)(whole) == 0.0
