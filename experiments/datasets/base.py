"""What a dataset is: candidates for demonstrations, evaluation samples, and how an answer is read and scored."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from emloc.errors import UserError, nearest
from emloc.options import Count, CountOrZero, OptionError, check_option, check_options
from emloc.prompt import Demonstration, Query, Visual
from experiments.datasets.choice import balanced
from experiments.datasets.codewords import AnswerCode
from experiments.metrics.breakdown import Scored, measured
from experiments.records.schema import Metric, MetricSpec

Rule = Literal["balanced", "first", "reference"]


@dataclass(frozen=True)
class Sample:
    """One task of a dataset.

    Attributes
    ----------
    id
        Unique in its dataset.
    visual
        Image, path, function that reads the image, or video; opened when it is used. None: text only.
    label
        What a demonstration answers, and what the record names as the target: class name, option letter, caption.
    question
        The text of the user turn.
    group
        What `demonstrations=balanced` balances; empty: the label.
    parts
        Names of the parts of the dataset that the sample counts in, such as its class.
    reference
        What an answer is scored against, where that is more than the label.
    problem
        Why the sample cannot be used, as a sentence; None: it can.
    """

    id: str
    visual: Visual | None
    label: str
    question: str
    group: str = ""
    parts: tuple[str, ...] = ()
    reference: Any = None
    problem: str | None = None

    @classmethod
    def made(cls, id: str, make: Callable[[], "Sample"]) -> "Sample":
        """What `make` makes; where it raises a UserError, a sample that says so when it is used.

        So one bad row does not lose the others.
        """
        try:
            return make()
        except UserError as problem:
            return cls(id, None, "", "", problem=str(problem))

    def check(self) -> None:
        """UserError if the sample cannot be used."""
        if self.problem:
            raise UserError(self.problem)


@dataclass(frozen=True, kw_only=True)
class Dataset(ABC):
    """A task to adapt to.

    Parameters
    ----------
    max_new_tokens
        Tokens that an answer may have.
    visual_tokens
        Tokens that each image (each step of two frames of a video) is resized to; None: what the model's image
        processor makes of it.
    demonstrations
        How they are chosen: `balanced` (by class, drawn with the seed), `first` (of the pool, in its order),
        `reference` (as the paper's public implementation does, whatever the seed). None: `usual`.

    Raises
    ------
    UserError
        If an option is out of range, or the data that it names cannot be used.
    """

    name: ClassVar[str]
    metrics: ClassVar[tuple[MetricSpec, ...]] = (MetricSpec("accuracy"),)  # of single answers; the first is compared
    usual: ClassVar[Rule] = "balanced"
    stop: ClassVar[str | None] = None  # what follows this text in an answer is left away

    max_new_tokens: Count = 8
    visual_tokens: Count | None = None
    demonstrations: Rule | None = None

    def __post_init__(self) -> None:
        check_options(self)

    @abstractmethod
    def pool(self) -> Sequence[Sample]:
        """The candidates for demonstrations, in a fixed order."""

    @abstractmethod
    def samples(self) -> Sequence[Sample]:
        """All evaluation samples, in a fixed order; none of them is in the pool."""

    @abstractmethod
    def score(self, prediction: str, sample: Sample) -> Mapping[str, float]:
        """The scores of an answer, under the names of `metrics`; empty where answers are only scored together."""

    @property
    @abstractmethod
    def prompts(self) -> Mapping[str, str]:
        """The constant texts that questions are made with, by name: what the record has fingerprints of."""

    @property
    def classes(self) -> tuple[str, ...]:
        """All labels, in a fixed order, where answers are one of a few; empty where they are free text."""
        return ()

    def baselines(self, samples: Sequence[Sample]) -> Mapping[str, float]:
        """Scores of the first metric on these samples (a share, 0 to 1) that need no model; empty: none is known."""
        return {}

    @property
    def rule(self) -> Rule:
        """How demonstrations are chosen."""
        return self.demonstrations or self.usual

    def draw(self, shots: int, seed: int, *, code: AnswerCode | None = None) -> list[Demonstration]:
        """The samples that `choose` takes, solved; `code` says how labels are written, else as `written` has it."""
        return [self.solved(sample, code=code) for sample in self.choose(shots, seed)]

    def choose(self, shots: int, seed: int) -> Sequence[Sample]:
        """The samples that demonstrate, by `rule`.

        Balanced and first: fewer shots with the same seed are the beginning of more shots.

        Raises
        ------
        UserError
            If the pool has no `shots` demonstrations, or not the right ones.
        """
        check_option("shots", shots, CountOrZero)
        check_option("seed", seed, CountOrZero)
        pool = self.pool()
        if shots > len(pool):
            raise UserError(f"Dataset {self.name} has {len(pool)} demonstrations, but shots={shots}; ask for fewer.")
        choose = {"balanced": self._balanced, "first": self._first, "reference": self.reference_choice}[self.rule]
        return choose(pool, shots, seed)

    def reference_choice(self, pool: Sequence[Sample], shots: int, seed: int) -> Sequence[Sample]:
        """The demonstrations of the paper's public implementation."""
        raise UserError(
            f"Expected demonstrations to be balanced or first, but got reference: the paper has no {self.name}."
        )

    def solved(self, sample: Sample, *, code: AnswerCode | None = None) -> Demonstration:
        """The sample with its answer, written in code words where the model knows no others."""
        sample.check()
        return Demonstration(sample.visual, sample.question, self._said(sample.label, code), sample.id)

    def choices(self, code: AnswerCode) -> tuple[str, ...]:
        """All answers there can be, as demonstrations give them; UserError where answers are free text."""
        if not self.classes:
            raise UserError(
                f"Expected a dataset with classes for answer=rank, but answers to {self.name} are free text; "
                "write answer=generate."
            )
        return tuple(self._said(label, code) for label in self.classes)

    def query(self, sample: Sample) -> Query:
        """The sample as a question; UserError if it cannot be used."""
        sample.check()
        return Query(sample.visual, sample.question, sample.id)

    def written(self, label: str) -> str:
        """The answer that a demonstration gives for a label, to a model that answers in free text."""
        return label

    def _said(self, label: str, code: AnswerCode | None) -> str:
        return code.encode(label) if code is not None and code.closed else self.written(label)

    def read(self, text: str) -> str:
        """The part of a model's text that is scored."""
        return text if self.stop is None else text.split(self.stop)[0].strip()

    def summarise(self, scored: Sequence[Scored]) -> list[Metric]:
        """The dataset's metrics, the one that runs are compared by first.

        By default the means of the answers' scores, over everything and over every part.
        """
        return [measured(spec, scored) for spec in self.metrics]

    def _balanced(self, pool: Sequence[Sample], shots: int, seed: int) -> Sequence[Sample]:
        return balanced(pool, seed, group=lambda sample: sample.group or sample.label)[:shots]

    def _first(self, pool: Sequence[Sample], shots: int, _seed: int) -> Sequence[Sample]:
        return pool[:shots]


@dataclass(frozen=True, kw_only=True)
class Worded(Dataset):
    """A dataset whose questions are made with constant texts that the user can replace.

    Parameters
    ----------
    prompt
        Texts to be used in place of those in `wording`, by name.
    """

    wording: ClassVar[Mapping[str, str]]

    prompt: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, text in self._given().items():
            if name not in self.wording:
                known = ", ".join(self.wording)
                raise OptionError("prompt", f"texts called {known}, but got {name!r}.{nearest(name, self.wording)}")
            check_option(f"prompt.{name}", text, str)
        super().__post_init__()

    @property
    def prompts(self) -> Mapping[str, str]:
        return {**self.wording, **self.prompt}

    def _given(self) -> Mapping[str, str]:
        # Text by text, so that a message names the one that is wrong; what is no mapping is left to the general check.
        return self.prompt if isinstance(self.prompt, Mapping) else {}


def named(names: Sequence[str], most: int = 5) -> str:
    """The first names, quoted, and how many there are besides."""
    shown = ", ".join(f"'{name}'" for name in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
