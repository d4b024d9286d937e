"""100 characters that the embedded model has never seen, drawn: the miniature of ImageNet100."""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np

from emloc.options import Count
from experiments.datasets.base import Sample
from experiments.datasets.classification import Classification
from experiments.miniature.drawing import HELD_OUT_CHARACTERS, draw_character

POOL_PER_CLASS = 2
QUERIES_PER_CLASS = 10
_SEED = 100  # of the drawings: the same at every run


@dataclass(frozen=True, kw_only=True)
class Glyphs100(Classification):
    """200 demonstrations (2 per class) and 1,000 queries (10 per class); a class is called by its Unicode name.

    Every drawing has a font, a warp and a blur of its own, from a fixed seed; drawn once and kept.
    """

    name: ClassVar[str] = "glyphs100"

    max_new_tokens: Count = 24

    def pool(self) -> Sequence[Sample]:
        return [sample for drawings in self._drawings for sample in drawings[:POOL_PER_CLASS]]

    def samples(self) -> Sequence[Sample]:
        return [sample for drawings in self._drawings for sample in drawings[POOL_PER_CLASS:]]

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(map(_class_name, HELD_OUT_CHARACTERS))

    @cached_property
    def _drawings(self) -> list[list[Sample]]:
        return [self._draw(index, character) for index, character in enumerate(HELD_OUT_CHARACTERS)]

    def _draw(self, index: int, character: str) -> list[Sample]:
        rng, name = np.random.default_rng((_SEED, index)), _class_name(character)
        return [
            self.sample(f"glyphs100/{ord(character):04x}/{number}", draw_character(character, rng), name)
            for number in range(POOL_PER_CLASS + QUERIES_PER_CLASS)
        ]


def _class_name(character: str) -> str:
    return unicodedata.name(character).lower()
