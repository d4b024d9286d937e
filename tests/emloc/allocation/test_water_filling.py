"""The search for the mean share, on divergences that are known; and what it keeps of a real chunk."""

import math

import pytest
import torch
from torch import Tensor

from emloc import EMLoCPlus, LeaveOneOut, Method, WaterFilling, Window
from emloc.allocation import water_filling
from emloc.allocation.base import Candidate, Share
from emloc.backbones.base import Backbone
from emloc.head_outputs import removal_curves
from emloc.passes import prefill
from emloc.region import Probes, Region
from emloc.rows import concatenate
from tests.support.lively import demonstrations, lively_backbone


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return lively_backbone(tmp_path_factory.mktemp("checkpoint"))


def searched(divergence: object, *, delta: float = 0.005, trials: int = 6, start: float = 0.15) -> list[Candidate]:
    """The trials of a search whose divergence at a mean share is known."""
    assert callable(divergence)
    tried: list[Candidate] = []
    mean: float | None = start
    while mean is not None and len(tried) < trials:
        js = divergence(mean)
        tried.append(Candidate(0, mean, 0, js, js <= delta))
        mean = water_filling._next(tried, delta, least=0.007)
    return tried


@pytest.mark.parametrize("constant", [1e-6, 1e-5, 1e-4, 1e-3, 3e-3])
@pytest.mark.parametrize("power", [-1.0, -2.0, -4.0])
def test_a_power_law_is_met_between_four_fifths_of_the_limit_and_the_limit(constant: float, power: float) -> None:
    tried = searched(lambda share: constant * share**power)
    root = (0.005 / constant) ** (1 / power)
    if 0.007 < root < 0.75:
        assert 0.004 <= tried[-1].js <= 0.005
    elif root <= 0.007:
        assert tried[-1].ratio == pytest.approx(0.007), "the smallest share is within the limit"


def test_a_step_is_enclosed() -> None:
    tried = searched(lambda share: 0.02 if share < 0.1 else 1e-6)
    accepted = min(trial.ratio for trial in tried if trial.accepted)
    assert 0.1 <= accepted < 0.13


def test_shares_below_the_limit_are_left_alone_where_the_divergence_rises_again() -> None:
    tried = searched(lambda share: 0.006 if 0.11 < share < 0.16 else 0.003)
    assert any(trial.accepted for trial in tried)
    assert len({round(trial.ratio, 6) for trial in tried}) == len(tried), "nothing is tried twice"


def test_a_limit_of_nothing_keeps_everything(backbone: Backbone) -> None:
    memory = EMLoCPlus(delta=0.0, chunk_size=4, refit=None).compress(backbone, demonstrations(4))
    assert memory.lengths == [memory.tokens_seen] * backbone.n_layers


def test_heads_keep_different_numbers_within_the_limit_and_fewer_under_a_looser_one(backbone: Backbone) -> None:
    traces = [
        Method(importance=LeaveOneOut(), allocation=WaterFilling(delta=delta), chunk_size=6).trace(
            backbone, demonstrations(6)
        )
        for delta in (0.002, 0.02, 0.2)
    ]
    for trace, delta in zip(traces, (0.002, 0.02, 0.2), strict=True):
        (chunk,) = trace.chunks
        assert chunk.js <= delta
        ratio, js = min(((t.ratio, t.js) for t in chunk.candidates if t.accepted), default=(1.0, 0.0))
        assert chunk.js == js
        assert trace.memory.mean_length == pytest.approx(ratio * trace.memory.tokens_seen, rel=1e-6)
    assert any(layer.counts is not None for layer in traces[1].memory.layers)
    lengths = [trace.memory.mean_length for trace in traces]
    assert lengths == sorted(lengths, reverse=True)
    assert lengths[0] > lengths[-1]


def test_the_next_chunk_starts_where_the_last_one_ended(backbone: Backbone) -> None:
    trace = EMLoCPlus(delta=0.02, chunk_size=4, refit=None).trace(backbone, demonstrations(8))
    first, second = trace.chunks
    ended = min(trial.ratio for trial in first.candidates if trial.accepted)
    assert second.candidates[0].ratio == pytest.approx(ended, rel=0.1)  # shares are rounded to whole tokens


def test_filling_meets_the_mean_at_one_price() -> None:
    """Two heads of two layers with known losses: the one that loses most per share keeps most."""
    shares = torch.tensor([0.1, 0.5, 1.0], dtype=torch.float64)
    losses = torch.tensor([[[8.0, 1.0, 0.0], [1.0, 0.1, 0.0]], [[0.0, 0.0, 0.0], [4.0, 3.9, 0.0]]], dtype=torch.float64)
    orders = [torch.arange(10).expand(2, -1)] * 2
    filling = water_filling._Filling(losses, shares, [1, 5, 10], orders)
    for mean in (0.1, 0.2, 0.4, 0.7):
        kept, found = filling.kept(mean)
        assert found >= mean - 1e-9
        assert math.isclose(found, sum(len(head) for layer in kept for head in layer) / 40)
    kept, _ = filling.kept(0.19)
    assert [[len(head) for head in layer] for layer in kept] == [[5, 1], [1, 1]]


@pytest.fixture(scope="module")
def region(backbone: Backbone) -> Region:
    rows = backbone.encode(demonstrations(6))
    memory = backbone.empty_memory()
    return Region(
        backbone, prefill(backbone, concatenate([backbone.system_row(), *rows]), memory), memory, Probes(rows)
    )


def filled(region: Region, **options: object) -> tuple[water_filling._Filling, list[Tensor]]:
    """The filling of a region's tokens, and the scores that order them."""
    scores, share = LeaveOneOut().scores(region), Share(0, region.chunk.tokens, region.chunk.tokens)
    switches = {"heads": "ragged", "head_weight": True, **options}
    return water_filling._Filling.of(scores, share, region, **switches), scores  # type: ignore[arg-type]


def plain_losses(region: Region, scores: list[Tensor], counts: list[int], *, weighted: bool) -> Tensor:
    """(L, H_kv, R) before they are made to fall, head by head."""
    found = []
    for number, (seen, layer) in enumerate(zip(region.observed, region.chunk.layers, strict=True)):
        for head in range(len(layer.keys)):
            order = scores[number].argsort(dim=-1, descending=True, stable=True)
            curve = removal_curves(seen, layer.keys, layer.values, order, counts)[head]
            gain = float(region.backbone.head_gains(number)[head]) / region.probe.input_power(number)
            found.append(curve.double() * gain if weighted else curve.double())
    return torch.stack(found).view(len(region.chunk.layers), -1, len(counts))


@pytest.mark.parametrize("weighted", [True, False])
def test_the_weight_of_heads_can_be_switched_off(region: Region, weighted: bool) -> None:
    filling, scores = filled(region, head_weight=weighted)
    expected = plain_losses(region, scores, list(filling.counts), weighted=weighted).cummin(dim=-1).values
    torch.testing.assert_close(filling.losses, expected, rtol=1e-5, atol=0)


def test_equal_heads_keep_equally_many_at_the_price_of_their_summed_losses(region: Region) -> None:
    filling, scores = filled(region, heads="equal")
    counts = list(filling.counts)
    summed = plain_losses(region, scores, counts, weighted=True).sum(1).cummin(dim=-1).values  # (L, R)
    kept, ratio = filling.kept(0.2)
    for layer, score in zip(kept, scores, strict=True):
        assert isinstance(layer, Tensor), "a layer of equal heads is not packed"
        best = [head.argsort(descending=True, stable=True)[: layer.shape[1]].sort().values for head in score]
        assert torch.equal(layer, torch.stack(best)), "each head its own best"
    # One price over layers: of all fillings with no more tokens in all, none loses less.
    every = torch.cartesian_prod(*[torch.arange(len(counts))] * len(kept))  # (R^L, L)
    loss = sum(summed[layer, every[:, layer]] for layer in range(len(kept)))
    tokens = torch.tensor(counts)[every].sum(1)
    taken = [layer.shape[1] for layer in kept if isinstance(layer, Tensor)]
    assert ratio == pytest.approx(sum(taken) / len(kept) / region.chunk.tokens)
    ours = sum(float(summed[layer, counts.index(count)]) for layer, count in enumerate(taken))
    assert ours == pytest.approx(float(loss[tokens <= sum(taken)].min()), rel=1e-4)
    assert len(set(taken)) > 1, "layers still differ"


def test_a_method_with_equal_heads_leaves_a_rectangular_memory_within_the_limit(backbone: Backbone) -> None:
    method = EMLoCPlus(allocation=WaterFilling(delta=0.02, heads="equal"), chunk_size=4, refit=None)
    trace = method.trace(backbone, demonstrations(8))
    assert all(layer.counts is None for layer in trace.memory.layers)
    assert trace.memory.mean_length < trace.memory.tokens_seen
    assert all(chunk.js <= 0.02 for chunk in trace.chunks)


def test_reserved_tokens_stay_at_any_price(backbone: Backbone) -> None:
    method = Method(importance=Window(window=24), allocation=WaterFilling(delta=0.6), chunk_size=6)
    memory = method.compress(backbone, demonstrations(6))
    window = set(range(memory.tokens_seen - 24, memory.tokens_seen))
    for layer in memory.layers:
        for *_, index in layer.heads:
            assert window <= set(index.tolist())
    assert memory.mean_length < memory.tokens_seen
