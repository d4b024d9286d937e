"""As many whole demonstrations as the budget holds, and not one token more."""

import json
from pathlib import Path

import pytest

from emloc import FewerShots, NoPruning, UserError
from emloc.backbones.base import Backbone
from tests.support.lively import demonstrations, lively_backbone

SHOTS = 9


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return lively_backbone(tmp_path_factory.mktemp("checkpoint"))


def lengths(backbone: Backbone) -> list[int]:
    """Tokens of a context of none, one, two, ... demonstrations."""
    rows = backbone.encode(demonstrations(SHOTS))
    return [0, *(len(backbone.system_row()) + sum(map(len, rows[:count])) for count in range(1, SHOTS + 1))]


def shown(backbone: Backbone, budget: str | float) -> int:
    trace = FewerShots(budget=budget, chunk_size=4).trace(backbone, demonstrations(SHOTS))
    assert trace.memory.mean_length == trace.memory.tokens_seen, "nothing is pruned"
    return sum(chunk.demonstrations for chunk in trace.chunks)


def test_the_last_demonstration_that_fits_is_shown_and_no_other(backbone: Backbone) -> None:
    for count, tokens in enumerate(lengths(backbone)[1:], start=1):
        assert shown(backbone, tokens) == count
        assert shown(backbone, tokens - 0.5) == count - 1


def test_a_ratio_is_of_all_demonstrations_and_of_the_system_turn(backbone: Backbone) -> None:
    tokens = lengths(backbone)
    for budget in (0.01, 0.2, 0.5, 0.99, 1.0):
        count = shown(backbone, budget)
        assert tokens[count] <= budget * tokens[-1]
        assert count == SHOTS or tokens[count + 1] > budget * tokens[-1]
    assert shown(backbone, 1.0) == SHOTS


def test_the_length_of_another_run_is_not_exceeded(backbone: Backbone, tmp_path: Path) -> None:
    tokens = lengths(backbone)
    record = tmp_path / "record.json"
    record.write_text(json.dumps({"context": {"tokens_kept_mean": tokens[5] + 0.25}}))
    assert shown(backbone, f"match:{record}") == 5


def test_they_are_the_first_ones_as_if_there_were_no_others(backbone: Backbone) -> None:
    memory = FewerShots(budget=lengths(backbone)[3]).compress(backbone, demonstrations(SHOTS))
    alone = NoPruning().compress(backbone, demonstrations(SHOTS)[:3])
    assert memory.offset == alone.offset
    assert all((a.keys == b.keys).all() for a, b in zip(memory.layers, alone.layers, strict=True))


def test_a_budget_that_cannot_be_read_is_refused() -> None:
    with pytest.raises(UserError, match="Expected budget to be a ratio"):
        FewerShots(budget="many")
