"""Retrieval per query: what is near, what the budget holds, and that answers come from just that context."""

import json
from pathlib import Path

import pytest
import torch

from emloc import RICES, Memory, NoPruning, Query, UserError
from emloc.backbones.base import Backbone
from emloc.methods.rices import Pool, embeddings
from emloc.passes import run_rows
from emloc.rows import RowBatch
from tests.support.lively import demonstrations, lively_backbone, queries

SHOTS = 9


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return lively_backbone(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="module")
def pool(backbone: Backbone) -> Pool:
    memory = RICES().compress(backbone, demonstrations(SHOTS))
    assert isinstance(memory, Pool)
    return memory


def test_an_embedding_is_the_mean_of_what_comes_before_the_answer(backbone: Backbone, pool: Pool) -> None:
    for row, given in zip(pool.rows, pool.embeddings, strict=True):
        asked = row.first(int(row.answers.nonzero()[0]))
        hidden = run_rows(backbone, RowBatch.stack([asked]), backbone.empty_memory())[0]
        torch.testing.assert_close(given, backbone.decoder.norm(hidden).mean(0), rtol=1e-4, atol=1e-5)


def test_ranks_are_those_of_the_cosine_of_centred_embeddings(backbone: Backbone, pool: Pool) -> None:
    for own in embeddings(backbone, backbone.encode(queries(4))):
        mean = sum(pool.embeddings) / SHOTS
        cosines = [torch.dot(e - mean, own - mean) / ((e - mean).norm() * (own - mean).norm()) for e in pool.embeddings]
        assert pool.ranked(own) == sorted(range(SHOTS), key=lambda number: -cosines[number].item())


def test_a_demonstration_is_nearest_to_its_own_question(backbone: Backbone, pool: Pool) -> None:
    asked = [Query(each.visual, each.question) for each in demonstrations(SHOTS)]
    own = embeddings(backbone, backbone.encode(asked))
    torch.testing.assert_close(own, pool.embeddings, rtol=1e-4, atol=1e-5)
    assert [pool.ranked(each)[0] for each in own] == list(range(SHOTS))


def test_the_nearest_that_fit_are_taken_and_never_more(backbone: Backbone, pool: Pool, tmp_path: Path) -> None:
    (own,), system = embeddings(backbone, backbone.encode(queries(1))), len(backbone.system_row())
    ranked = pool.ranked(own)
    for count in range(1, SHOTS + 1):
        tokens = system + sum(len(pool.rows[number]) for number in ranked[:count])
        (tmp_path / "record.json").write_text(json.dumps({"context": {"tokens_kept_mean": tokens}}))
        assert RICES(budget=f"match:{tmp_path}").retrieved(backbone, pool, own) == ranked[:count]
        assert RICES(budget=tokens - 0.5).retrieved(backbone, pool, own) == ranked[: count - 1]
    assert RICES(budget=1.0, shots_per_query=3).retrieved(backbone, pool, own) == ranked[:3]
    assert RICES(budget=1.0, shots_per_query=3, nearest="last").retrieved(backbone, pool, own) == ranked[:3][::-1]


@pytest.mark.parametrize("shots", [0, SHOTS])
def test_replies_are_the_answers_behind_the_retrieved(shots: int, backbone: Backbone) -> None:
    method, asked = RICES(budget=150), queries(5)
    memory = method.compress(backbone, demonstrations(shots))
    replies = method.answer(backbone, asked, memory, max_new_tokens=4, batch_size=2)
    assert isinstance(memory, Pool)
    for query, reply in zip(asked, replies, strict=True):
        (own,) = embeddings(backbone, backbone.encode([query]))
        chosen = [demonstrations(shots)[number] for number in method.retrieved(backbone, memory, own)]
        alone = NoPruning().compress(backbone, chosen)
        assert [reply.text] == backbone.answer([query], alone, max_new_tokens=4)
        assert reply.own is not None
        assert reply.own.tokens_kept_per_layer == alone.lengths
        assert alone.tokens_seen <= 150
        assert bool(chosen) == bool(shots)


def test_choices_are_ranked_behind_the_retrieved(backbone: Backbone) -> None:
    method, asked, choices = RICES(budget=150), queries(4), ["red", "blue, not grey", "a green bird"]
    memory = method.compress(backbone, demonstrations(SHOTS))
    replies = method.choose(backbone, asked, choices, memory, batch_size=2)
    for query, reply, own in zip(asked, replies, method.contexts(backbone, asked, memory), strict=True):
        (expected,) = NoPruning().choose(backbone, [query], choices, own, batch_size=1)
        assert reply.text == expected.text


def test_another_methods_memory_and_a_file_are_refused(backbone: Backbone, pool: Pool, tmp_path: Path) -> None:
    other: Memory = NoPruning().compress(backbone, demonstrations(2))
    with pytest.raises(UserError, match="the memory that rices made"):
        RICES().answer(backbone, queries(1), other, max_new_tokens=2, batch_size=1)
    with pytest.raises(UserError, match="leave save_memory out"):
        pool.save(tmp_path / "memory.safetensors")
