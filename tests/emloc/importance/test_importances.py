"""Each importance against its formula, computed plainly: whole softmaxes, one query and one token at a time."""

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from emloc import (
    AnswerAttention,
    Answers,
    Ensemble,
    ExpectedAttention,
    Importance,
    KeyDifference,
    Memory,
    RandomScores,
    Repetition,
    RmsAttention,
    SinksRecent,
    ValueWeighted,
)
from emloc.attention import attend
from emloc.backbones.base import Backbone
from emloc.importance.expected_attention import unrotated
from emloc.importance.value_weighted import projected_lengths
from emloc.passes import Chunk, prefill
from emloc.region import Probes, Region
from emloc.rows import RowBatch, concatenate
from emloc.scores import pool_scores
from tests.support.lively import demonstrations, lively_backbone

GROUP = 2  # query heads per KV head of the checkpoint


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return lively_backbone(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="module")
def regions(backbone: Backbone) -> list[Region]:
    """Two chunks of three demonstrations, the second behind what is left of the first: ragged, and without token 1."""
    rows = backbone.encode(demonstrations(6))
    first, second = rows[:3], rows[3:]
    empty = backbone.empty_memory()
    chunk = prefill(backbone, concatenate([backbone.system_row(), *first]), empty, tail=10**6)
    whole = empty.extend(chunk.layers, offset=chunk.offset, tokens=chunk.tokens)
    left = (torch.tensor([0, 2, 3, 9, 20]), torch.tensor([0, 5, 6]))
    memory = whole.select([left] * backbone.n_layers)
    behind = prefill(backbone, concatenate(second), memory, tail=10**6)
    return [Region(backbone, chunk, empty, Probes(first)), Region(backbone, behind, memory, Probes(second))]


def captured(region: Region) -> list[tuple[Tensor, Tensor, float]]:
    """Per layer queries (B, H_q, T, D) and own keys (B, H_kv, T, D) of the probe rows, and the scaling."""
    found: list[tuple[Tensor, Tensor, float]] = []
    batch = RowBatch.stack(region.probes.rows, offset=region.chunk.offset)

    def attention(layer: int, q: Tensor, k: Tensor, v: Tensor, scaling: float) -> Tensor:
        found.append((q, k, scaling))
        shared = [part[layer].key_values for part in (region.memory.layers, region.chunk.layers)]
        return attend(q, k, v, scaling=scaling, attn="plain", shared=shared)

    region.backbone.run_layers(batch.embeds, batch.positions, attention, added=batch.added)
    return found


@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("sinks", [0, 4])
def test_repetition_is_the_largest_weight_of_any_query(place: int, sinks: int, regions: Sequence[Region]) -> None:
    region = regions[place]
    scores = Repetition(sinks=sinks).scores(region)
    for number, (queries, own, scaling) in enumerate(captured(region)):
        expected = torch.zeros_like(scores[number])
        for head, (keys, _, index) in enumerate(region.memory.layers[number].heads):
            before = keys[index < sinks]
            chunk = region.chunk.layers[number].keys[head]
            for row, turn in enumerate(region.probes.rows):
                for at in range(len(turn)):
                    everything = torch.cat([before, chunk, own[row, head, : at + 1]])
                    for query in queries[row, head * GROUP : (head + 1) * GROUP, at]:
                        weights = (everything @ query * scaling).softmax(0)[len(before) : len(before) + len(chunk)]
                        expected[head] = torch.maximum(expected[head], weights)
        if place == 0:
            expected[:, :sinks] = 1
        torch.testing.assert_close(scores[number], expected, rtol=1e-4, atol=1e-6)


def test_repetition_does_not_look_at_padding(regions: Sequence[Region]) -> None:
    lengths = {len(row) for row in regions[1].probes.rows}
    assert len(lengths) > 1, "rows are padded"
    alone = [
        Repetition().scores(Region(r.backbone, r.chunk, r.memory, Probes([row])))
        for r in regions[1:]
        for row in r.probes.rows
    ]
    for together, *each in zip(Repetition().scores(regions[1]), *alone, strict=True):
        torch.testing.assert_close(together, torch.stack(each).amax(0), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("place", [0, 1])
def test_rms_attention_is_over_all_queries_and_the_chunk_alone(place: int, regions: Sequence[Region]) -> None:
    region = regions[place]
    scores = RmsAttention().scores(region)
    for number, (queries, _, scaling) in enumerate(captured(region)):
        for head, keys in enumerate(region.chunk.layers[number].keys):
            looked = [
                (keys @ query * scaling).softmax(0)
                for row, turn in enumerate(region.probes.rows)
                for at in range(len(turn))
                for query in queries[row, head * GROUP : (head + 1) * GROUP, at]
            ]
            expected = torch.stack(looked).square().mean(0).sqrt()
            torch.testing.assert_close(scores[number][head], expected, rtol=1e-4, atol=1e-6)


def test_rms_attention_is_formed_block_by_block(regions: Sequence[Region], monkeypatch: pytest.MonkeyPatch) -> None:
    whole = RmsAttention().scores(regions[1])
    monkeypatch.setattr("emloc.head_outputs._BLOCK", 7)
    for one, other in zip(whole, RmsAttention().scores(regions[1]), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("place", [0, 1])
def test_answer_attention_is_the_sum_over_answers_and_heads(place: int, regions: Sequence[Region]) -> None:
    region = regions[place]
    scores = AnswerAttention().scores(region)
    for number, (queries, own, scaling) in enumerate(captured(region)):
        expected = torch.zeros_like(scores[number])
        for head, keys in enumerate(region.chunk.layers[number].keys):
            for row, turn in enumerate(region.probes.rows):
                for at in turn.answers.nonzero()[:, 0].tolist():
                    everything = torch.cat([keys, own[row, head, : at + 1]])
                    for query in queries[row, head * GROUP : (head + 1) * GROUP, at]:
                        expected[head] += (everything @ query * scaling).softmax(0)[: len(keys)]
        torch.testing.assert_close(scores[number], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("sinks", [0, 4])
def test_ensemble_is_the_weighted_mean_over_all_heads(sinks: int, regions: Sequence[Region]) -> None:
    region, recent = regions[0], 6
    tail = tuple(queries[:, -recent:] for queries in region.chunk.tail)
    scores = Ensemble(window=recent, sinks=sinks).scores(replace(region, chunk=replace(region.chunk, tail=tail)))
    weights = [1.0, 1.04, 1.08, 1.12, 1.16, 1.2]
    for number, queries in enumerate(tail):
        keys = region.chunk.layers[number].keys
        expected, tokens = torch.zeros(keys.shape[1]), keys.shape[1]
        for head in range(len(queries)):
            for at, weight in enumerate(weights):
                seen = keys[head // GROUP, : tokens - recent + at + 1]
                attention = (seen @ queries[head, at] / keys.shape[-1] ** 0.5).softmax(0)
                expected[: len(seen)] += weight * attention / (recent * len(queries))
        for given in scores[number]:
            inner = slice(sinks, tokens - recent)
            torch.testing.assert_close(given[inner], expected[inner], rtol=1e-4, atol=1e-6)
            assert given[:sinks].isinf().all()
            assert given[tokens - recent :].isinf().all()


def test_key_difference_is_the_angle_to_the_mean_direction(regions: Sequence[Region]) -> None:
    for layer, scores in zip(regions[1].chunk.layers, KeyDifference().scores(regions[1]), strict=True):
        for keys, given in zip(layer.keys, scores, strict=True):
            mean = torch.stack([key / key.norm() for key in keys]).mean(0)
            expected = [1 - (key @ mean / (key.norm() * mean.norm())).item() for key in keys]
            torch.testing.assert_close(given, torch.tensor(expected), rtol=1e-4, atol=1e-5)
    unlike = torch.ones(8, 4)
    unlike[5] = -1
    chunk = _with_keys(regions[1], unlike)
    assert KeyDifference().scores(chunk)[0].argmax(-1).tolist() == [5, 5]


def _with_keys(region: Region, keys: Tensor) -> Region:
    layer = replace(region.chunk.layers[0], keys=keys.expand(2, -1, -1))
    return replace(region, chunk=replace(region.chunk, layers=(layer,)))


def test_value_weighted_is_attention_times_what_the_value_adds(regions: Sequence[Region], backbone: Backbone) -> None:
    region = regions[1]
    size = region.chunk.layers[0].keys.shape[-1]
    for number, scores in enumerate(ValueWeighted().scores(region)):
        weight = backbone.output_projection(number)
        lengths = torch.zeros_like(scores)
        for head, values in enumerate(region.chunk.layers[number].values):
            for token, value in enumerate(values):
                for query_head in range(head * GROUP, (head + 1) * GROUP):
                    columns = weight[:, query_head * size : (query_head + 1) * size]
                    lengths[head, token] += (columns @ value).norm() / GROUP
        torch.testing.assert_close(projected_lengths(region.chunk.layers[number].values, weight), lengths)
        weighted = region.probe.attention[number] * lengths / lengths.mean(1, keepdim=True)
        expected = pool_scores(weighted) + 100 * region.chunk.row.answers
        torch.testing.assert_close(scores, expected, rtol=1e-4, atol=1e-5)
    plain = Answers().scores(region)
    assert any(not torch.allclose(a, b) for a, b in zip(plain, ValueWeighted().scores(region), strict=True))


def test_random_scores_are_those_of_the_place_and_the_seed(regions: Sequence[Region]) -> None:
    first, again, other_seed = (RandomScores(seed=seed).scores(regions[0]) for seed in (3, 3, 4))
    other_place = RandomScores(seed=3).scores(regions[1])
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], other_seed[0])
    assert not torch.equal(first[0][:, :10], other_place[0][:, :10])
    assert not torch.equal(first[0], first[1]), "layers differ"
    assert not torch.equal(first[0][0], first[0][1]), "heads differ"
    assert 0.3 < torch.stack(first).mean() < 0.7


def test_sinks_and_the_most_recent_come_first(regions: Sequence[Region]) -> None:
    tokens = regions[1].chunk.tokens
    for scores in SinksRecent(sinks=2).scores(regions[1]):
        assert scores.topk(5, dim=-1).indices.sort(-1).values.tolist() == [[0, 1, *range(tokens - 3, tokens)]] * 2
        assert scores.isinf().sum(-1).tolist() == [2, 2]


@pytest.mark.parametrize("sinks", [0, 4])
def test_expected_attention_is_the_softmax_of_the_log_mean_of_normal_queries(
    sinks: int, backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Queries before their rotation are taken at the model's own rotation; the rest follows the paper's formula."""
    from transformers.models.qwen2_vl import modeling_qwen2_vl as stock

    unturned: list[Tensor] = []
    plain = stock.apply_multimodal_rotary_pos_emb if hasattr(stock, "apply_multimodal_rotary_pos_emb") else None
    name = "apply_multimodal_rotary_pos_emb" if plain else "apply_rotary_pos_emb"
    turn = getattr(stock, name)

    def watched(query: Tensor, *rest: object, **named: object) -> object:
        unturned.append(query[0])
        return turn(query, *rest, **named)

    monkeypatch.setattr(stock, name, watched)
    turns = [backbone.system_row(), *backbone.encode(demonstrations(4))]
    chunk = prefill(backbone, concatenate(turns), backbone.empty_memory(), tail=10**6)
    assert len(unturned) == backbone.n_layers
    region = Region(backbone, chunk, backbone.empty_memory(), Probes(turns[1:]))
    scores = ExpectedAttention(sinks=sinks, future=7).scores(region)
    text = [at for at, kind in enumerate(chunk.row.kinds.tolist()) if kind != 1 and at >= sinks]
    turn_by = _mean_turn(backbone, range(chunk.offset, chunk.offset + 7))
    for layer, queries, given in zip(chunk.layers, unturned, scores, strict=True):
        _check_expected(queries[:, text], layer.keys, layer.values, turn_by, given, sinks)


def _mean_turn(backbone: Backbone, positions: range) -> Tensor:
    size = backbone.empty_memory().layers[0].keys.shape[-1]
    theta = backbone.text_config.rope_parameters["rope_theta"]
    turns = []
    for position in positions:
        matrix = torch.zeros(size, size)
        for pair in range(size // 2):
            angle = position * theta ** (-2 * pair / size)
            matrix[pair, pair] = matrix[pair + size // 2, pair + size // 2] = math.cos(angle)
            matrix[pair, pair + size // 2], matrix[pair + size // 2, pair] = -math.sin(angle), math.sin(angle)
        turns.append(matrix)
    return torch.stack(turns).mean(0)


def _check_expected(queries: Tensor, keys: Tensor, values: Tensor, turn: Tensor, given: Tensor, sinks: int) -> None:
    size = keys.shape[-1]
    for head in range(len(keys)):
        weights = []
        for asked in queries[head * GROUP : (head + 1) * GROUP]:
            mean, spread = turn @ asked.mean(0), turn @ torch.cov(asked.T, correction=0) @ turn.T
            logits = [k @ mean / size**0.5 + k @ spread @ k / (2 * size) for k in keys[head, sinks:]]
            weights.append(torch.stack(logits).softmax(0))
        expected = torch.stack(weights).mean(0) * values[head, sinks:].norm(dim=-1)
        torch.testing.assert_close(given[head, sinks:], expected, rtol=2e-3, atol=1e-5)
        assert given[head, :sinks].isinf().all()


def test_a_rotation_that_stretches_is_undone_too() -> None:
    queries, angles = torch.randn(3, 5, 8), torch.randn(5, 4).repeat(1, 2)
    cos, sin = 1.3 * angles.cos(), 1.3 * angles.sin()
    first, second = queries.chunk(2, dim=-1)
    turned = queries * cos + torch.cat([-second, first], dim=-1) * sin
    torch.testing.assert_close(unrotated(turned, cos, sin), queries)


@pytest.mark.parametrize("importance", [ExpectedAttention(sinks=9), SinksRecent(sinks=9), Ensemble(sinks=9)], ids=str)
def test_a_context_shorter_than_the_sinks(importance: Importance, backbone: Backbone) -> None:
    rows = backbone.encode(demonstrations(1))
    chunk: Chunk = prefill(backbone, rows[0].first(6), backbone.empty_memory(), tail=10**6)
    memory: Memory = backbone.empty_memory()
    for scores in importance.scores(Region(backbone, chunk, memory, Probes(rows))):
        assert scores.shape == (2, 6)
        assert scores.isinf().all()
