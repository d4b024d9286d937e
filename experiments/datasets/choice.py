"""Orders that demonstrations are taken in."""

import random
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

REFERENCE_SEED = 42
Item = TypeVar("Item")


def balanced(pool: Sequence[Item], seed: int, *, group: Callable[[Item], str]) -> list[Item]:
    """The whole pool, balanced: rounds in which every group that has an item left gives one.

    The order of the groups is drawn again for every round, the order of the items within a group once.
    """
    rng = np.random.default_rng(seed)
    by_group: dict[str, list[Item]] = {}
    for item in pool:
        by_group.setdefault(group(item), []).append(item)
    shuffled = [[members[i] for i in rng.permutation(len(members))] for members in by_group.values()]
    order: list[Item] = []
    for turn in range(max(map(len, shuffled), default=0)):
        left = [members for members in shuffled if len(members) > turn]
        order += [left[i][turn] for i in rng.permutation(len(left))]
    return order


def reference_draw(population: int, count: int) -> list[int]:
    """`count` of the numbers below `population`, drawn as the paper's public implementation draws them.

    Python's own generator, seeded with 42 for every draw. From 22 of 100 on, Python switches to another algorithm, so
    more items do not begin with those of a smaller draw.
    """
    return random.Random(REFERENCE_SEED).sample(range(population), count)
