"""Layer forwards and kept tokens that are foretold, against runs that were counted."""

from pathlib import Path

import pytest

from emloc import Answers, EMLoC, LayerSearch, Method, SnapKV, Trace, Window
from emloc.allocation.budget import Scheduled
from emloc.backbones.base import Backbone
from emloc.divergence import LN2
from experiments.estimating.forwards import Bounds, Forwards, forwards
from experiments.estimating.memory import Plan, estimate
from experiments.estimating.sizes import Context, ModelSize, Queries, Rows
from tests.matrix import METHODS, Dropper
from tests.support.lively import demonstrations, lively_backbone, queries

SHOTS = 9
# A dropper decides by itself, unforeseeably.
KNOWN = [method for method in METHODS if method.foreseen and not isinstance(method, Dropper)]
LOWER, UPPER = (LayerSearch(delta=delta, ratios=(0.001, 0.3, 0.5)) for delta in (LN2, 0.0))  # 0.001 keeps no token


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return lively_backbone(tmp_path_factory.mktemp("checkpoint"))


def plan(method: Method, backbone: Backbone) -> Plan:
    shown = method.demonstrated(demonstrations(SHOTS))
    context = Context.of(method, Rows.of(backbone, shown), opening=len(backbone.system_row()))
    asked = Queries(count=3, batch=Rows.of(backbone, queries(2)), new_tokens=4)
    size = ModelSize.of(backbone)
    return Plan(model=size, method=method, context=context, queries=asked, heldout=Rows(()), plain=False)


def foretold(method: Method, backbone: Backbone) -> Forwards:
    made = plan(method, backbone)
    return forwards(method, backbone.n_layers, made.context, made.queries)


def counted(trace: Trace) -> tuple[int, int]:
    return trace.deciding.layer_forwards, trace.measuring.layer_forwards


@pytest.mark.parametrize("method", KNOWN, ids=str)
def test_counts_are_within_the_bounds(method: Method, backbone: Backbone) -> None:
    deciding, measuring = counted(trace := method.trace(backbone, demonstrations(SHOTS)))
    told, memory = foretold(method, backbone), estimate(plan(method, backbone))
    assert deciding in told.deciding
    assert measuring in told.measuring
    assert memory.memory_least <= trace.memory.nbytes <= memory.memory_most <= memory.memory_full
    if method.limit is None and method.refit is None:
        assert told.deciding == Bounds(deciding, deciding), "what is not searched is known"
        if isinstance(method.allocation, Scheduled):
            assert memory.memory_least == memory.memory_most == trace.memory.nbytes


@pytest.mark.parametrize("group", [1, 3])
@pytest.mark.parametrize("importance", [Answers(), Window(window=8)], ids=str)
def test_bounds_of_a_search_are_met(importance: Answers | Window, group: int, backbone: Backbone) -> None:
    """A limit that everything satisfies takes the least, one that nothing does the most."""
    for limit, bound in ((LOWER, "least"), (UPPER, "most")):
        search = LayerSearch(delta=limit.delta, ratios=limit.ratios, group=group)
        method = EMLoC(importance=importance, allocation=search, chunk_size=4)
        trace = method.trace(backbone, demonstrations(SHOTS))
        assert trace.deciding.layer_forwards == getattr(foretold(method, backbone).deciding, bound)
        assert trace.memory.nbytes == getattr(estimate(plan(method, backbone)), f"memory_{bound}")


def test_a_context_of_nothing_costs_nothing(backbone: Backbone) -> None:
    context = Context(demonstrations=Rows(()), opening=5, chunk_size=4)
    asked = Queries(count=5, batch=Rows((7, 7), (0, 0), (0, 0)), new_tokens=4)
    told = forwards(SnapKV(), 6, context, asked)
    assert (told.deciding, told.measuring) == (Bounds(0, 0), Bounds(0, 0))
    assert told.answering == Bounds(6 * 3, 6 * 3 * 4), "three batches, of one to four tokens each"


def test_answers_are_counted(backbone: Backbone) -> None:
    """One batch: its first pass, and one per token up to the last; ranked, one per choice of several tokens."""
    before = backbone.layer_forwards
    backbone.answer(queries(2), max_new_tokens=4)
    told = foretold(Method(), backbone).answering
    assert backbone.layer_forwards - before in Bounds(told.least // 2, told.most // 2), "of two batches"
    before = backbone.layer_forwards
    choices = ("red", "a green bird")
    Method().choose(backbone, queries(2), choices, backbone.empty_memory(), batch_size=2)
    ranked = Queries(
        count=2, batch=Rows((7, 7)), new_tokens=1, choices=tuple(len(backbone.answer_ids(one)) for one in choices)
    )
    context = Context(demonstrations=Rows(()), opening=0, chunk_size=4)
    told = forwards(Method(), backbone.n_layers, context, ranked).answering
    assert told == Bounds(backbone.layer_forwards - before, backbone.layer_forwards - before)


def test_sizes_are_those_of_the_rows(backbone: Backbone, tmp_path: Path) -> None:
    rows = backbone.encode(shown := demonstrations(SHOTS))
    assert Rows.of(backbone, shown).lengths == tuple(map(len, rows))
    assert Rows.of(backbone, shown).answers == tuple(int(row.answers.sum()) for row in rows)
    assert Rows.of(backbone, shown[:3], 6).lengths == tuple(len(rows[n]) for n in (0, 0, 1, 1, 2, 2))
