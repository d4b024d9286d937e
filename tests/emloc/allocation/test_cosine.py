"""The cosine schedule against the reference's budgets, and what it does with the first tokens."""

import itertools
import math
from typing import Any

import pytest
import torch

from emloc import Cosine, UserError
from emloc.allocation.base import Share

LAYERS = 28  # of the model that the reference's constants are for
SHARES = [0.01 + 0.39 * (math.cos(math.pi * layer / LAYERS) + 1) / 2 for layer in range(LAYERS)]


def test_at_the_references_mean_it_is_the_references_schedule() -> None:
    assert [round(SHARES[layer], 3) for layer in (0, 7, 14, 21, 27)] == [0.4, 0.343, 0.205, 0.067, 0.011]
    tokens = 1600
    expected = [max(64, tokens * share) for share in SHARES]
    counts = Cosine(budget=sum(expected) / LAYERS).counts(LAYERS, Share(0, tokens, tokens))
    assert counts == pytest.approx(expected, abs=1)
    assert sum(counts) == round(sum(expected))
    plain = Cosine(budget=0.212, least=0).counts(LAYERS, Share(0, tokens, tokens))
    assert plain == pytest.approx([tokens * share for share in SHARES], abs=1.5)


@pytest.mark.parametrize("budget", [0.01, 0.05, 0.3, 0.97, 1.0, 77.7])
@pytest.mark.parametrize("least", [0, 64, 5000])
def test_chunks_share_the_budget_exactly_and_keep_the_least_if_they_can(budget: float, least: int) -> None:
    allocation, cuts = Cosine(budget=budget, least=least), [0, 7, 300, 301, 1000]
    parts = [Share(start, end - start, 1000) for start, end in itertools.pairwise(cuts)]
    counts = [allocation.counts(LAYERS, part) for part in parts]
    assert sum(map(sum, counts)) == round(allocation.target(1000) * LAYERS)
    for part, of_part in zip(parts, counts, strict=True):
        assert of_part == sorted(of_part, reverse=True)
        assert max(of_part) <= part.tokens
        assert min(of_part) >= min(least, part.tokens, sum(of_part) // LAYERS)


def test_tokens_that_always_stay_are_within_every_layers_budget() -> None:
    counts = Cosine(budget=0.2, least=0).counts(LAYERS, Share(0, 500, 500, reserved=30))
    assert (min(counts), sum(counts)) == (30, 100 * LAYERS)


def test_the_first_tokens_are_scored_above_others() -> None:
    scores = torch.rand(2, 40)
    scores[:, 9] = 300.0  # a bonus is no promise: enough attention is worth more
    nothing_is_measured: Any = None
    (layer,) = Cosine(budget=5, least=0).decide([scores], Share(0, 40, 40), nothing_is_measured).kept
    assert isinstance(layer, torch.Tensor)
    assert layer.tolist() == [[0, 1, 2, 3, 9]] * 2


def test_impossible_options_are_refused() -> None:
    with pytest.raises(UserError, match=r"falls_to to be a number from 0 to 1, but got 1\.5"):
        Cosine(falls_to=1.5)
    with pytest.raises(UserError, match="least to be a whole number from 0 up, but got -1"):
        Cosine(least=-1)
