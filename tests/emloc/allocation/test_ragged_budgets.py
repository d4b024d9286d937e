"""Allocations that let heads keep different numbers, against plain sorting."""

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

from emloc import Answers, GlobalThreshold, Method, TopP, UserError
from emloc.allocation.base import Decision, Share
from emloc.backbones.base import Backbone
from tests.support.lively import demonstrations, lively_backbone

LAYERS, HEADS, TOKENS = 3, 2, 20
SCORES = [torch.rand(HEADS, TOKENS, generator=torch.Generator().manual_seed(n)) * (n + 1) for n in range(LAYERS)]
WHOLE = Share(0, TOKENS, TOKENS)


def decided(allocation: GlobalThreshold | TopP, scores: list[Tensor], share: Share = WHOLE) -> Decision:
    nothing_is_measured: Any = None
    return allocation.decide(scores, share, nothing_is_measured)


def kept(decision: Decision) -> list[list[list[int]]]:
    return [[head.tolist() for head in layer] for layer in decision.kept if layer is not None]


@pytest.mark.parametrize("budget", [0.05, 0.31, 7.4, 20])
def test_no_token_that_goes_scores_above_one_that_stays(budget: float) -> None:
    choice = kept(decided(GlobalThreshold(budget=budget), SCORES))
    everything = {
        (layer, head, token): SCORES[layer][head, token].item()
        for layer, head, token in itertools.product(range(LAYERS), range(HEADS), range(TOKENS))
    }
    mean = budget * TOKENS if budget < 1 else budget
    best = sorted(everything, key=everything.__getitem__, reverse=True)[: round(mean * LAYERS * HEADS)]
    assert {(la, h, t) for la, heads in enumerate(choice) for h, tokens in enumerate(heads) for t in tokens} == set(
        best
    )


def test_chunks_share_the_budget_and_it_is_met_exactly() -> None:
    cuts, allocation = [0, 7, 300, 301, 1000], GlobalThreshold(budget=33.3)
    counts = [allocation.count(6, Share(start, end - start, 1000)) for start, end in itertools.pairwise(cuts)]
    assert sum(counts) == round(33.3 * 6)
    assert counts[3] == pytest.approx(33.3 * 6 * 0.699, abs=1)


def test_reserved_tokens_stay_at_any_threshold() -> None:
    scores = [score.clone() for score in SCORES]
    for score in scores:
        score[:, 17:] = torch.inf
    choice = kept(decided(GlobalThreshold(budget=3), scores, Share(0, TOKENS, TOKENS, reserved=3)))
    assert choice == [[[17, 18, 19]] * HEADS] * LAYERS


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9, 1.0])
def test_the_fewest_tokens_that_hold_the_share(p: float) -> None:
    for layer, choice in zip(SCORES, kept(decided(TopP(p=p), SCORES)), strict=True):
        for scores, tokens in zip(layer.double(), choice, strict=True):
            held, total = scores[tokens].sum(), scores.sum()
            assert tokens == sorted(tokens)
            assert held >= p * total - 1e-12
            assert held - scores[tokens].min() < p * total, "without its least token it is too little"
            assert scores[tokens].min() >= max((s for t, s in enumerate(scores) if t not in tokens), default=0)


def test_tokens_that_always_stay_are_kept_beside_the_share() -> None:
    scores = torch.tensor([[torch.inf, 6.0, 3.0, 1.0], [torch.inf, 1.0, 1.0, 1.0]])
    assert kept(decided(TopP(p=0.6), [scores])) == [[[0, 1], [0, 1, 2]]]


def test_a_head_without_any_importance_keeps_one_token() -> None:
    assert [[len(head) for head in layer] for layer in kept(decided(TopP(p=0.5), [torch.zeros(2, 5)]))] == [[1, 1]]


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return lively_backbone(tmp_path_factory.mktemp("checkpoint"))


def test_heads_may_keep_nothing_and_the_memory_still_answers(backbone: Backbone) -> None:
    method = Method(importance=Answers(), allocation=GlobalThreshold(budget=2), chunk_size=6)
    memory = method.compress(backbone, demonstrations(6))
    lengths = [length for layer in memory.layers for length in layer.lengths]
    assert sum(lengths) == 2 * len(lengths)
    assert min(lengths) == 0
    assert len(set(lengths)) > 2


@pytest.mark.parametrize("p", [0, -0.1, 1.1, "half"])
def test_a_share_that_is_none_is_refused(p: float) -> None:
    with pytest.raises(UserError, match="p to be a number above 0 and at most 1"):
        TopP(p=p)
