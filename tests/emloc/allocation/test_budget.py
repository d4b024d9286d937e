"""Budgets of the fixed-schedule baselines."""

import itertools
import json
from pathlib import Path

import pytest

from emloc import Pyramid, Uniform, UserError
from emloc.allocation.base import Share
from emloc.allocation.budget import Budget, spread


@pytest.mark.parametrize(("text", "tokens"), [(0.25, 250), ("0.25", 250), (1, 1000), ("300", 300), (5000, 1000)])
def test_ratio_or_tokens(text: str | float, tokens: float) -> None:
    assert Budget.parse(text).resolve(1000) == tokens


def test_match_reads_another_run(tmp_path: Path) -> None:
    record = tmp_path / "record.json"
    record.write_text(json.dumps({"context": {"tokens_kept_mean": 123.5}}))
    assert Budget.parse(f"match:{record}").resolve(1000) == 123.5
    assert Budget.parse(f"match:{tmp_path}").resolve(1000) == 123.5


@pytest.mark.parametrize("text", ["many", True, 0, -3, "nan", "inf", "match:nowhere/record.json"])
def test_bad_budgets_are_refused_in_one_sentence(text: str | float) -> None:
    with pytest.raises(UserError, match=r"Expected budget"):
        Uniform(budget=text)


def test_match_refuses_a_file_that_is_no_record(tmp_path: Path) -> None:
    (tmp_path / "record.json").write_text("{}")
    with pytest.raises(UserError, match="run the method to be matched first"):
        Uniform(budget=f"match:{tmp_path}/record.json")


@pytest.mark.parametrize("mean", [40, 131.3, 700, 1000])
@pytest.mark.parametrize("layers", [1, 2, 8, 28])
def test_layer_budgets_have_the_asked_mean(mean: float, layers: int) -> None:
    for allocation in (Uniform(budget=str(mean)), Pyramid(budget=str(mean))):
        budgets = allocation.layer_budgets(layers, Share(0, 1000, 1000, reserved=32))
        assert sum(budgets) == round((mean - 32) * layers) + 32 * layers
        assert all(32 <= budget <= 1000 for budget in budgets)
        assert budgets == sorted(budgets, reverse=True)


def test_the_pyramid_is_linear_from_wide_to_narrow() -> None:
    budgets = Pyramid(budget=20_032, beta=20).layer_budgets(8, Share(0, 1_000_000, 1_000_000, reserved=32))
    assert (budgets[0], budgets[-1]) == (32 + 39_000, 32 + 1_000)  # (2 - 1/20) * 20000 and 1/20 * 20000
    steps = [a - b for a, b in itertools.pairwise(budgets)]
    assert max(steps) - min(steps) <= 1
    assert len(set(Uniform(budget=232).layer_budgets(8, Share(0, 100_000, 100_000)))) == 1


def test_spread_gives_a_capped_layers_share_to_the_others() -> None:
    assert spread([3.0, 2.0, 1.0], 12, most=5) == [5, 5, 2]
    assert spread([3.0, 2.0, 1.0], 100, most=5) == [5, 5, 5]


@pytest.mark.parametrize("allocation", [Uniform(budget=333), Pyramid(budget=333)])
def test_what_the_chunks_keep_adds_up_to_the_budget(allocation: Uniform | Pyramid) -> None:
    cuts = [0, 7, 300, 301, 1000]
    parts = [allocation.counts(5, Share(start, end - start, 1000)) for start, end in itertools.pairwise(cuts)]
    assert [sum(column) for column in zip(*parts, strict=True)] == allocation.layer_budgets(5, Share(0, 1000, 1000))
