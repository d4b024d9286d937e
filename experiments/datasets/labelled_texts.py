"""Datasets of texts and class names: text-only demonstrations and queries."""

from dataclasses import dataclass
from typing import ClassVar

from emloc.errors import UserError
from experiments.datasets.base import Sample
from experiments.datasets.classification import Classification

PLACE = "{text}"  # in a question: where the row's text goes


@dataclass(frozen=True, kw_only=True)
class LabelledTexts(Classification):
    """Name the class of a text; subclasses say where the texts come from.

    An answer is read up to the end of its first line, since no class name is longer: small models often go on with a
    next question. It is right if `exact_match` finds it the same as the label.

    Parameters
    ----------
    question
        The text of every user turn, with `{text}` in the place of the row's text.
    """

    stop: ClassVar[str | None] = "\n"
    remedy: ClassVar[str] = "add rows of these classes to the demonstrations or remove them from the queries"

    question: str = f"{PLACE}\nLabel:"
    max_new_tokens: int = 16

    def __post_init__(self) -> None:
        super().__post_init__()
        if PLACE not in self.question:
            raise UserError(
                f"Expected {PLACE} in dataset.question, where the row's text is to be, but got {self.question!r}."
            )

    def read(self, text: str) -> str:
        return super().read(text.strip())

    def labelled(self, id: str, text: str, label: str) -> Sample:
        """A text of a class, in the dataset's question."""
        return Sample(id, None, label, self.question.replace(PLACE, text), parts=(label,))
