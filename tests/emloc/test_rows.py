"""The choice of some rows out of many: balanced over answers, drawn, the same at every call."""

from collections import Counter

import pytest
import torch

from emloc.prompt import TokenKind
from emloc.rows import Row, balanced


def row(answer: int) -> Row:
    """A question of one token, and an answer of one."""
    kinds = torch.tensor([TokenKind.QUESTION, TokenKind.ANSWER], dtype=torch.uint8)
    return Row(torch.tensor([7, answer]), kinds, torch.arange(2)[None], torch.zeros(2, 1))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("count", [1, 3, 4, 7, 9])
def test_answers_are_as_balanced_as_they_can_be(count: int, seed: int) -> None:
    rows = [row(answer) for answer in [0] * 6 + [1] * 3 + [2]]
    chosen = balanced(rows, count, seed=seed)
    times = Counter(int(each.ids[1]) for each in chosen)
    # Greedily: always one more of the rarest answer among the chosen that has rows left.
    expected: Counter[int] = Counter()
    left = Counter({0: 6, 1: 3, 2: 1})
    for _ in range(count):
        expected[min((answer for answer in left if left[answer] > expected[answer]), key=lambda a: expected[a])] += 1
    assert sorted(times.values()) == sorted(value for value in expected.values() if value)
    assert len(set(map(id, chosen))) == count


def test_the_choice_depends_on_the_seed_alone() -> None:
    rows = [row(answer) for answer in range(20)]
    first, again, other = (balanced(rows, 5, seed=seed) for seed in (0, 0, 1))
    assert list(map(id, first)) == list(map(id, again)) != list(map(id, other))


def test_rows_stay_in_their_order_and_all_are_taken_where_there_are_no_more() -> None:
    rows = [row(answer) for answer in range(6)]
    places = [next(n for n, each in enumerate(rows) if each is one) for one in balanced(rows, 4, seed=3)]
    assert places == sorted(places)
    assert balanced(rows, 9, seed=0) == rows
