"""Orders that demonstrations are taken in."""

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from experiments.datasets.base import Sample

REFERENCE_SEED = 42


def balanced(pool: Sequence["Sample"], seed: int) -> list["Sample"]:
    """The whole pool, balanced: rounds in which every group (or label) that has a sample left gives one.

    The order of the groups is drawn anew for every round, the order of the samples within a group once.
    """
    rng = np.random.default_rng(seed)
    by_group: dict[str, list[Sample]] = {}
    for sample in pool:
        by_group.setdefault(sample.group or sample.label, []).append(sample)
    shuffled = [[members[i] for i in rng.permutation(len(members))] for members in by_group.values()]
    order: list[Sample] = []
    for turn in range(max(map(len, shuffled), default=0)):
        left = [members for members in shuffled if len(members) > turn]
        order += [left[i][turn] for i in rng.permutation(len(left))]
    return order


def reference_draw(population: int, count: int) -> list[int]:
    """`count` of the numbers below `population`, drawn as the paper's public implementation draws them.

    Python's own generator, seeded with 42 for every draw. From 22 of 100 on another algorithm serves, so that more are
    not a continuation of fewer.
    """
    return random.Random(REFERENCE_SEED).sample(range(population), count)
