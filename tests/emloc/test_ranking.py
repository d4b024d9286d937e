"""Likelihoods of given answers: against one plain forward of transformers over everything."""

import pytest
import torch

from emloc import NoPruning
from emloc.backbones.base import Backbone
from emloc.passes import run_rows
from emloc.ranking import likelihoods
from emloc.rows import RowBatch, concatenate
from tests.support.lively import demonstrations, lively_backbone, queries

CHOICES = ("red", "a green bird", "blue, not grey", "a")


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return lively_backbone(tmp_path_factory.mktemp("checkpoint"))


def ids_of(backbone: Backbone) -> list[list[int]]:
    return [backbone.answer_ids(choice) for choice in CHOICES]


@pytest.mark.parametrize("shots", [0, 3])
def test_likelihoods_are_those_of_a_plain_forward(backbone: Backbone, shots: int) -> None:
    memory = NoPruning(chunk_size=2).compress(backbone, demonstrations(shots))
    asked = queries(4)
    found = likelihoods(backbone, asked, ids_of(backbone), memory, batch_size=3)
    for number, query in enumerate(asked):
        opening = [] if shots else [backbone.system_row()]
        row = concatenate([*opening, *backbone.encode([query])])
        for place, ids in enumerate(ids_of(backbone)):
            tokens = torch.tensor(ids)
            answer = backbone.build_row(tokens, torch.zeros(len(ids), dtype=torch.uint8), [])
            whole = concatenate([row, answer])
            hidden = run_rows(backbone, RowBatch.stack([whole], offset=memory.offset), memory)[0]
            chances = backbone.logits(hidden[len(row) - 1 : -1]).log_softmax(-1)
            expected = chances.gather(1, tokens[:, None]).sum()
            assert found[number, place].item() == pytest.approx(expected.item(), abs=2e-4)


def test_batches_do_not_change_likelihoods(backbone: Backbone) -> None:
    memory = NoPruning().compress(backbone, demonstrations(2))
    one, many = (likelihoods(backbone, queries(5), ids_of(backbone), memory, batch_size=size) for size in (1, 5))
    torch.testing.assert_close(one, many, atol=2e-4, rtol=0)


def test_the_likeliest_choice_is_taken(backbone: Backbone) -> None:
    method, choices = NoPruning(), ("red", "who", "What", "bird", "blue", "not")
    memory = method.compress(backbone, demonstrations(3))
    ids = [backbone.answer_ids(choice) for choice in choices]
    best = likelihoods(backbone, queries(9), ids, memory).argmax(1).tolist()
    replies = method.choose(backbone, queries(9), choices, memory, batch_size=2)
    assert [reply.text for reply in replies] == [choices[place] for place in best]
    assert len(set(best)) > 1, "one choice for all queries would say little"


def test_an_answer_ends(backbone: Backbone) -> None:
    """So that a class whose name begins another one's is not as likely as both together."""
    assert backbone.answer_ids("a")[-1] in backbone.end_ids
    assert len(backbone.answer_ids("a")) > 1


def test_no_queries_have_no_likelihoods(backbone: Backbone) -> None:
    assert likelihoods(backbone, [], ids_of(backbone)).shape == (0, len(CHOICES))
