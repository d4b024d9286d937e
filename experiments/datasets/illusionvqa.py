"""IllusionVQA: multiple choice about optical illusions; what its two tasks have in common."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from emloc.options import Count
from emloc.prompt import Visual
from experiments.datasets.base import Sample
from experiments.datasets.published import Published
from experiments.datasets.source import Row
from experiments.metrics import illusion_score

LETTERS = "ABCDEF"


@dataclass(frozen=True, kw_only=True)
class IllusionVQA(Published):
    """The options are listed under letters; a demonstration answers with the letter alone.

    Layout of the user turn: image, instruction, question, options, each on a line of its own as "A. text". Between
    instruction and question there is nothing, as in the public implementation: a separator is part of the instruction.
    """

    split: ClassVar[str] = "test"
    columns: ClassVar[tuple[str, ...]] = ("question", "options", "answer", "category")
    wording: ClassVar[Mapping[str, str]] = {
        "instruction": (
            "Look at the image and read the question and its options. Pick the one option that is right. "
            "Give its letter only, without any explanation.\n"
        )
    }

    max_new_tokens: Count = 16
    visual_tokens: Count | None = 256

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(LETTERS)

    def score(self, prediction: str, sample: Sample) -> Mapping[str, float]:
        right = illusion_score(prediction, sample.label, scoring=self.scoring, letters="".join(self.classes))
        return {"accuracy": right}

    def sample(self, id: str, row: Row, visual: Visual) -> Sample:
        listed, letter = row.lettered("options", "answer", LETTERS)
        question = "\n".join([f"{self.prompts['instruction']}{row.text('question')}", *listed])
        return Sample(id, visual, letter, question, parts=(row.part("category"),))
