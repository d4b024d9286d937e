"""From what a run measured to its record."""

import pytest

from emloc import EMLoC, EMLoCVideo, FewerShots, NoPruning, Trace
from emloc.backbones.base import Backbone
from emloc.methods.trace import OwnContext
from experiments.running.assembly import Outcome, context_size, notes
from experiments.running.evaluation import Answered, Prediction
from tests.support.lively import demonstrations

pytest_plugins = ["tests.support.trace_fixtures"]


def test_context_size_is_measured(trace: Trace) -> None:
    size = context_size(trace.memory)
    assert size.bytes_kept == sum(layer.keys.nbytes + layer.values.nbytes for layer in trace.memory.layers)
    if size.compression is not None:
        assert size.compression == size.tokens_full / size.tokens_kept_mean
        assert size.bytes_full / size.bytes_kept == pytest.approx(size.compression)


def outcome(backbone: Backbone, *, own: OwnContext | None = None) -> Outcome:
    """Two demonstrations, all kept, and one answered query."""
    trace = NoPruning().trace(backbone, demonstrations(2))
    answer = Prediction("q", "?", "yes", "yes", "yes", 1.0, {"accuracy": 1.0}, own, 0.1)
    return Outcome(trace=trace, answered=Answered([answer], {}), heldout=[], load_seconds=1.0, encode_seconds=0.1)


def test_a_method_that_could_have_pruned_and_did_not_is_noted(small_backbone: Backbone) -> None:
    kept_all = outcome(small_backbone)
    assert notes(NoPruning(), kept_all) == []
    assert notes(EMLoC(), kept_all) == ["nothing was pruned: the method kept every token of the context"]
    assert notes(EMLoCVideo(), kept_all) == ["nothing was pruned: the method kept every token of the context"]
    condensed = outcome(small_backbone, own=OwnContext(100, [10, 10, 10], 0.01))
    assert notes(EMLoCVideo(), condensed) == [], "the demonstrations are kept, but the videos were pruned"


def test_weights_that_are_not_what_their_name_says_are_noted(small_backbone: Backbone) -> None:
    assert notes(NoPruning(), outcome(small_backbone), "of a package") == ["the weights are of a package"]


def test_demonstrations_that_are_not_in_the_context_are_noted(small_backbone: Backbone) -> None:
    shown = outcome(small_backbone)
    assert notes(FewerShots(), shown, given=2) == []
    (note,) = notes(FewerShots(), shown, given=7)
    assert note.startswith("2 of 7 demonstrations are in the context")
    assert notes(FewerShots(), outcome(small_backbone, own=OwnContext(9, [9, 9, 9], 0.0)), given=7) == []
