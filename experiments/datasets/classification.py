"""Datasets of images and class names, with one question for all of them."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from emloc.errors import UserError
from emloc.options import Text
from emloc.prompt import Visual
from experiments.datasets.base import Dataset, Sample, named
from experiments.metrics import exact_match


@dataclass(frozen=True, kw_only=True)
class Classification(Dataset):
    """Name the class of an image; subclasses say where the images come from.

    With fewer shots than classes, some classes have no demonstration.

    Parameters
    ----------
    question
        The text of every user turn.
    """

    remedy: ClassVar[str] = "add images to train/ or remove the class from val/"  # for classes without demonstrations

    question: Text = "What is this?"

    @property
    def prompts(self) -> Mapping[str, str]:
        return {"question": self.question}

    def baselines(self, samples: Sequence[Sample]) -> Mapping[str, float]:
        """`chance`: a uniform guess among the classes; `majority`: the most frequent label as the answer to all.

        Samples that cannot be used do not count.
        """
        labels = Counter(sample.label for sample in samples if sample.problem is None)
        return {"chance": 1 / len(self.classes), "majority": max(labels.values(), default=0) / max(labels.total(), 1)}

    def score(self, prediction: str, sample: Sample) -> Mapping[str, float]:
        return {self.metrics[0].name: self.agreement(prediction, sample.label)}

    def agreement(self, prediction: str, label: str) -> float:
        """The score of an answer (0 to 1): `exact_match` among the classes."""
        return exact_match(prediction, label, classes=self.classes)

    def sample(self, id: str, visual: Visual, label: str) -> Sample:
        """An image of a class, with the dataset's question."""
        return Sample(id, visual, label, self.question, parts=(label,))

    def _balanced(self, pool: Sequence[Sample], shots: int, seed: int) -> Sequence[Sample]:
        asked = (sample.label for sample in self.samples() if sample.problem is None)
        check_covered(asked, {sample.label for sample in pool}, self.name, self.remedy)
        return super()._balanced(pool, shots, seed)


def check_covered(
    evaluated: Iterable[str], demonstrated: set[str], dataset: str, remedy: str = Classification.remedy
) -> None:
    """UserError naming the classes that are to be evaluated but can have no demonstration."""
    missing = [label for label in dict.fromkeys(evaluated) if label not in demonstrated]
    if missing:
        raise UserError(
            f"Every class that is evaluated needs demonstrations, but dataset {dataset} has none for "
            f"{named(missing)}; {remedy}."
        )
