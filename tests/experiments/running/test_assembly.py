"""From what a run measured to its record."""

from dataclasses import replace

import pytest
import torch

from emloc import EMLoC, EMLoCPlus, EMLoCVideo, FewerShots, NoPruning, Trace, Values
from emloc.backbones.base import Backbone
from emloc.methods.trace import OwnContext
from experiments.running.assembly import Outcome, context_size, divergence, notes
from experiments.running.evaluation import Answered, Prediction
from experiments.running.heldout import HeldOut
from tests.support.lively import demonstrations

pytest_plugins = ["tests.support.trace_fixtures"]


def test_context_size_is_measured(trace: Trace) -> None:
    size = context_size(trace.memory)
    held = sum(layer.keys.nbytes + layer.values.nbytes for layer in trace.memory.layers)
    if trace.memory.quantisation is not None:  # simulated: counted as codes and scales, held as they came
        assert 0 < size.bytes_kept == trace.memory.nbytes < held
        return
    assert size.bytes_kept == held
    if size.compression is not None:
        assert size.compression == size.tokens_full / size.tokens_kept_mean
        assert size.bytes_full / size.bytes_kept == pytest.approx(size.compression)


def outcome(backbone: Backbone, *, own: OwnContext | None = None, trace: Trace | None = None) -> Outcome:
    """Two demonstrations, all kept if there is no other trace, and one answered query."""
    trace = trace or NoPruning().trace(backbone, demonstrations(2))
    answer = Prediction("q", "?", "yes", "yes", "yes", 1.0, {"accuracy": 1.0}, own, 0.1)
    return Outcome(trace=trace, answered=Answered([answer], {}), heldout=None, load_seconds=1.0, encode_seconds=0.1)


def test_a_method_that_could_have_pruned_and_did_not_is_noted(small_backbone: Backbone) -> None:
    kept_all = outcome(small_backbone)
    assert notes(NoPruning(), kept_all) == []
    assert notes(EMLoC(), kept_all) == ["nothing was pruned: the method kept every token of the context"]
    assert notes(EMLoCVideo(), kept_all) == ["nothing was pruned: the method kept every token of the context"]
    condensed = outcome(small_backbone, own=OwnContext(100, [10, 10, 10], 0.01))
    assert notes(EMLoCVideo(), condensed) == [], "the demonstrations are kept, but the videos were pruned"


def test_weights_that_are_not_what_their_name_says_are_noted(small_backbone: Backbone) -> None:
    assert notes(NoPruning(), outcome(small_backbone), "of a package") == ["the weights are of a package"]


def test_refitted_values_are_recorded(small_backbone: Backbone) -> None:
    method = EMLoCPlus(delta=0.05, chunk_size=4)
    found = outcome(small_backbone, trace=method.trace(small_backbone, demonstrations(5)))
    chunks = [chunk.crossfit for chunk in found.trace.chunks]
    assert [js is None for js in chunks] == [False, True], "the second chunk is a single demonstration"
    assert divergence(found, 0.05).crossfit_per_chunk == chunks
    (note,) = notes(method, found)
    assert note == "values of 1 of 2 chunks were refitted: they are no longer the model's own"


def test_values_judged_on_the_rows_they_were_fitted_on_are_labelled(small_backbone: Backbone) -> None:
    method = EMLoCPlus(delta=0.05, chunk_size=4, refit=Values(crossfit=False))
    found = outcome(small_backbone, trace=method.trace(small_backbone, demonstrations(5)))
    assert found.trace.memory.refitted
    assert divergence(found, 0.05).crossfit_per_chunk is None
    (note,) = notes(method, found)
    assert note.endswith("; their divergence is on the very demonstrations that they were fitted on")


def test_heads_of_different_lengths_are_counted_one_by_one(small_backbone: Backbone) -> None:
    whole = NoPruning().compress(small_backbone, demonstrations(2))
    uneven = whole.select([(torch.arange(2), torch.arange(5)), *[None] * (len(whole.layers) - 1)])
    size = context_size(uneven)
    assert size.tokens_kept_per_head == [[2, 5], *[[whole.tokens_seen] * 2] * (len(whole.layers) - 1)]
    assert size.bytes_kept == uneven.nbytes
    assert context_size(whole).tokens_kept_per_head is None


def test_held_out_figures_are_recorded(small_backbone: Backbone) -> None:
    found = replace(outcome(small_backbone), heldout=HeldOut(7, 0.25, 0.5, None, 0.75))
    js = divergence(found, None)
    assert (js.heldout_queries, js.heldout_mean, js.total, js.agreement) == (7, 0.25, 0.5, 0.75)
    assert js.crossfit_per_chunk is None


def test_demonstrations_that_are_not_in_the_context_are_noted(small_backbone: Backbone) -> None:
    shown = outcome(small_backbone)
    assert notes(FewerShots(), shown, given=2) == []
    (note,) = notes(FewerShots(), shown, given=7)
    assert note.startswith("2 of 7 demonstrations are in the context")
    assert notes(FewerShots(), outcome(small_backbone, own=OwnContext(9, [9, 9, 9], 0.0)), given=7) == []
