"""Handwritten digits: the 1,797 real images of 8 x 8 pixels that come with scikit-learn."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from experiments.datasets.base import Sample
from experiments.datasets.classification import Classification

CLASSES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
PER_CLASS = 20  # demonstrations in the pool
_WHITE = 16  # the data has 17 grey levels, 0 to 16
_SEED = 0  # of the choice of the pool: the same at every run


@dataclass(frozen=True, kw_only=True)
class Digits(Classification):
    """200 demonstrations (20 of each digit) and the other 1,597 images as queries, the same at every shot count.

    The images are given as they are, mode "L", 8 x 8 pixels, white on black; the image processor resizes them.
    """

    name: ClassVar[str] = "digits"

    def pool(self) -> Sequence[Sample]:
        return self._split[0]

    def samples(self) -> Sequence[Sample]:
        return self._split[1]

    @property
    def classes(self) -> tuple[str, ...]:
        return CLASSES

    @cached_property
    def _split(self) -> tuple[list[Sample], list[Sample]]:
        images, targets = load_digits(return_X_y=True)
        rng = np.random.default_rng(_SEED)
        chosen = [rng.choice(np.flatnonzero(targets == digit), PER_CLASS, replace=False) for digit in range(10)]
        demonstrations = set(np.concatenate(chosen).tolist())
        samples = [self._sample(*row) for row in zip(range(len(targets)), images, targets, strict=True)]
        return (
            [sample for index, sample in enumerate(samples) if index in demonstrations],
            [sample for index, sample in enumerate(samples) if index not in demonstrations],
        )

    def _sample(self, index: int, pixels: np.ndarray, target: int) -> Sample:
        grey = np.rint(pixels.reshape(8, 8) * 255 / _WHITE).astype(np.uint8)
        return self.sample(f"digits/{index:04d}", Image.fromarray(grey), CLASSES[target])
