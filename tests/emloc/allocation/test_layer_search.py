"""Orders and groups of EMLoC's search: what is decided together, and that the reported divergence is the true one."""

from typing import Any

import pytest
import torch

from emloc import EMLoC, LayerSearch, NoPruning, UserError
from emloc.allocation.layer_search import layer_groups
from emloc.backbones.base import Backbone
from emloc.divergence import js_divergence
from emloc.passes import run_rows
from emloc.rows import RowBatch
from tests.support.lively import demonstrations, lively_backbone

ORDERS = ("top_down", "bottom_up")


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return lively_backbone(tmp_path_factory.mktemp("checkpoint"), layers=5)


def searched(**options: Any) -> EMLoC:
    return EMLoC(allocation=LayerSearch(**options), chunk_size=4)


def test_groups_of_layers() -> None:
    assert layer_groups(5, order="top_down", size=1) == [[4], [3], [2], [1], [0]]
    assert layer_groups(5, order="top_down", size=2) == [[3, 4], [1, 2], [0]]
    assert layer_groups(5, order="bottom_up", size=2) == [[0, 1], [2, 3], [4]]
    assert layer_groups(2, order="bottom_up", size=9) == [[0, 1]]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("group", [1, 2])
@pytest.mark.parametrize(("delta", "ratios"), [(0.05, (0.1,)), (0.1, (0.1, 0.2, 0.5))])
def test_the_reported_divergence_is_that_of_what_is_kept(
    backbone: Backbone, order: str, group: int, delta: float, ratios: tuple[float, ...]
) -> None:
    """Recomputed from the memory alone, without stored layer inputs; where layers keep all, too."""
    demos = demonstrations(4)
    result = searched(delta=delta, ratios=ratios, order=order, group=group).trace(backbone, demos)
    whole = NoPruning(chunk_size=4).compress(backbone, demos)
    assert 0 < result.chunks[0].js <= delta
    batch = RowBatch.stack(backbone.encode(demos), offset=whole.offset)
    logits = [backbone.logits(run_rows(backbone, batch, memory)[batch.answers]) for memory in (whole, result.memory)]
    assert js_divergence(*logits).item() == pytest.approx(result.chunks[0].js, abs=1e-6)


def test_some_layer_was_rejected_before_another_was_accepted(backbone: Backbone) -> None:
    """What the test above needs in order to find a stale layer input."""
    result = searched(delta=0.05, ratios=(0.1,), order="bottom_up").trace(backbone, demonstrations(4))
    whole = [layer for layer, length in enumerate(result.memory.lengths) if length == result.memory.tokens_seen]
    pruned = [layer for layer, length in enumerate(result.memory.lengths) if length < result.memory.tokens_seen]
    assert whole
    assert min(whole) < max(pruned)


@pytest.mark.parametrize("order", ORDERS)
def test_layers_of_a_group_keep_equally_many_and_their_own(backbone: Backbone, order: str) -> None:
    memory = searched(delta=0.1, order=order, group=2).compress(backbone, demonstrations(4))
    pairs = [group for group in layer_groups(5, order=order, size=2) if len(group) == 2]
    for low, high in pairs:
        assert memory.lengths[low] == memory.lengths[high]
    assert any(not torch.equal(memory.layers[low].index, memory.layers[high].index) for low, high in pairs)


@pytest.mark.parametrize("order", ORDERS)
def test_layers_are_tried_in_order(backbone: Backbone, order: str) -> None:
    result = searched(delta=0.02, order=order).trace(backbone, demonstrations(4))
    tried = [candidate.layer for candidate in result.chunks[0].candidates]
    assert tried == sorted(tried, reverse=order == "top_down")


def test_bottom_up_costs_whole_passes_where_top_down_costs_parts(backbone: Backbone) -> None:
    """Each trial runs from its layer to the top: the first ones of bottom-up are the long ones."""
    forwards = {}
    for order in ORDERS:
        before = backbone.layer_forwards
        result = searched(delta=0.02, order=order).trace(backbone, demonstrations(4))
        forwards[order] = backbone.layer_forwards - before
        expected = 2 * 5 + sum(5 - candidate.layer for candidate in result.chunks[0].candidates)
        assert forwards[order] == expected


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"order": "sideways"}, "order to be one of top_down, bottom_up, but got 'sideways'"),
        ({"group": 0}, "group to be a whole number from 1 up, but got 0"),
    ],
)
def test_impossible_orders_are_refused(options: dict, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        LayerSearch(**options)
