"""What a dataset is: candidates for demonstrations, evaluation samples, a question, and a score."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import ClassVar

import numpy as np

from emloc.errors import UserError
from emloc.prompt import Demonstration, ImageLike, Query
from experiments.codewords import AnswerCode
from experiments.metrics import MetricSpec, exact_match


@dataclass(frozen=True)
class Sample:
    """One image and its class name. `id` is unique in its dataset; a path is opened when the image is used."""

    id: str
    visual: ImageLike
    label: str


@dataclass(frozen=True, kw_only=True)
class Dataset(ABC):
    """A classification task; subclasses say where its images come from.

    Parameters
    ----------
    question
        The text of every user turn.
    max_new_tokens
        Tokens that an answer may have.
    visual_tokens
        Tokens that each image is resized to; None: what the model's image processor makes of it.

    Raises
    ------
    UserError
        If an option is out of range, or the data that it names cannot be used.
    """

    name: ClassVar[str]
    metric: ClassVar[MetricSpec] = MetricSpec("accuracy")

    question: str = "What is this?"
    max_new_tokens: int = 8
    visual_tokens: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.question, str) or not self.question.strip():
            raise UserError(f"dataset.question must be a text that is not empty, but got {self.question!r}.")
        _check_whole("dataset.max_new_tokens", self.max_new_tokens, least=1)
        if self.visual_tokens is not None:
            _check_whole("dataset.visual_tokens", self.visual_tokens, least=1)

    @abstractmethod
    def pool(self) -> Sequence[Sample]:
        """The candidates for demonstrations, in a fixed order."""

    @abstractmethod
    def samples(self) -> Sequence[Sample]:
        """All evaluation samples, in a fixed order; none of them is in the pool."""

    @property
    @abstractmethod
    def classes(self) -> tuple[str, ...]:
        """The class names, in a fixed order."""

    def demonstrations(self, shots: int, seed: int, *, code: AnswerCode | None = None) -> list[Demonstration]:
        """The first `shots` demonstrations of the class-balanced order of `seed` (see `balanced_order`).

        Fewer shots with the same seed are the beginning of more shots. With fewer shots than classes, some classes
        have no demonstration. `code` says how class names are written; without it, as `answer` has it.

        Raises
        ------
        UserError
            If the pool has no `shots` demonstrations, or nothing of a class that has evaluation samples.
        """
        pool = self.pool()
        self._check_demonstrations(pool, shots, seed)
        chosen = islice(balanced_order(pool, seed), shots)
        return [self.solved(sample, code=code) for sample in chosen]

    def solved(self, sample: Sample, *, code: AnswerCode | None = None) -> Demonstration:
        """The sample with its answer, written in code words where the model knows no others."""
        answer = code.encode(sample.label) if code is not None and code.closed else self.answer(sample.label)
        return Demonstration(sample.visual, self.question, answer, sample.id)

    def query(self, sample: Sample) -> Query:
        """The sample as a question."""
        return Query(sample.visual, self.question, sample.id)

    def answer(self, label: str) -> str:
        """The answer that a demonstration of this class gives, for a model that answers in free text."""
        return label

    def score(self, prediction: str, label: str) -> float:
        """The score of an answer (0 to 1): `exact_match` among the classes."""
        return exact_match(prediction, label, classes=self.classes)

    def _check_demonstrations(self, pool: Sequence[Sample], shots: int, seed: int) -> None:
        _check_whole("shots", shots, least=0)
        _check_whole("seed", seed, least=0)
        if shots > len(pool):
            raise UserError(f"Dataset {self.name} has {len(pool)} demonstrations, but shots={shots}; ask for fewer.")
        check_covered((s.label for s in self.samples()), {s.label for s in pool}, self.name)


def balanced_order(pool: Sequence[Sample], seed: int) -> Iterator[Sample]:
    """The whole pool, class-balanced: rounds in which every class that has an image left gives one.

    The order of the classes is drawn anew for every round, the order of the images within a class once.
    """
    rng = np.random.default_rng(seed)
    by_class: dict[str, list[Sample]] = {}
    for sample in pool:
        by_class.setdefault(sample.label, []).append(sample)
    shuffled = [[members[i] for i in rng.permutation(len(members))] for members in by_class.values()]
    for turn in range(max(map(len, shuffled), default=0)):
        left = [members for members in shuffled if len(members) > turn]
        yield from (left[i][turn] for i in rng.permutation(len(left)))


def check_covered(evaluated: Iterable[str], demonstrated: set[str], dataset: str) -> None:
    """UserError naming the classes that are to be evaluated but can have no demonstration."""
    missing = [label for label in dict.fromkeys(evaluated) if label not in demonstrated]
    if missing:
        raise UserError(
            f"Every class that is evaluated needs demonstrations, but dataset {dataset} has none for "
            f"{named(missing)}; add images to train/ or remove the class from val/."
        )


def named(names: Sequence[str], most: int = 5) -> str:
    """The first names, quoted, and how many there are besides."""
    shown = ", ".join(f"'{name}'" for name in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def _check_whole(option: str, value: object, *, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise UserError(f"{option} must be a whole number from {least} up, but got {value!r}.")
