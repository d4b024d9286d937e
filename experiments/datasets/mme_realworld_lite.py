"""MME-RealWorld-lite: multiple choice about details of large photographs, tables, maps and street scenes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from emloc.options import Count
from emloc.prompt import Visual
from experiments.datasets.base import Sample
from experiments.datasets.published import Published
from experiments.datasets.source import Row, Table
from experiments.metrics import mme_score
from experiments.metrics.letters import mme_letter, strict_letter
from experiments.records.schema import MetricSpec

LETTERS = "ABCDE"
_ABSTAINING = "E"  # in every row the option that the image does not show it


@dataclass(frozen=True, kw_only=True)
class MMERealWorldLite(Published):
    """1,919 questions, of which 1,819 are evaluated; a demonstration answers with the letter alone.

    Layout of the user turn: image, question, a space, lead-in, options (their letters are part of the data), each on a
    line of its own, instruction. "chose E" is how often the answer was that the image does not show it; no share of it
    is good as such. At the paper's 256 visual tokens the images are far from the resolution that the benchmark is for.
    """

    name: ClassVar[str] = "mme_realworld_lite"
    hub_id: ClassVar[str] = "yifanzhang114/MME-RealWorld-lite-lmms-eval"
    split: ClassVar[str] = "train"
    columns: ClassVar[tuple[str, ...]] = ("question", "multi-choice options", "answer", "category", "l2-category")
    visual_columns: ClassVar[tuple[str, ...]] = ("bytes",)
    metrics: ClassVar[tuple[MetricSpec, ...]] = (
        MetricSpec("accuracy"),
        MetricSpec("chose E", higher_is_better=False),
    )
    wording: ClassVar[Mapping[str, str]] = {
        "lead_in": "You can choose from these:\n",
        "instruction": "Which of them does the image show to be right? Reply with its letter alone.\nLetter: ",
    }

    rows: Count | None = 1919
    max_new_tokens: Count = 16
    visual_tokens: Count | None = 256

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(LETTERS)

    def visual(self, table: Table, number: int, row: Row) -> Visual:
        return table.base64_image(number, "bytes")

    def score(self, prediction: str, sample: Sample) -> Mapping[str, float]:
        strict = self.scoring == "strict"
        letter = strict_letter(prediction, LETTERS) if strict else mme_letter(prediction)
        right = mme_score(prediction, sample.label, scoring=self.scoring)
        return {"accuracy": right, "chose E": float(letter == _ABSTAINING)}

    def sample(self, id: str, row: Row, visual: Visual) -> Sample:
        letter = row.letter("answer", LETTERS)
        question = self._question(row.text("question"), row.texts("multi-choice options"))
        return Sample(id, visual, letter, question, parts=_parts(row.part("category"), row.part("l2-category")))

    def _question(self, question: str, options: list[str]) -> str:
        return "\n".join(
            [f"{question} {self.prompts['lead_in']}{options[0]}", *options[1:], self.prompts["instruction"]]
        )


def _parts(category: str, task: str) -> tuple[str, ...]:
    """Perception or Reasoning, its domain, and the task in it; tasks about attributes are one per object."""
    kind = "Perception" if "perception" in category.lower() else "Reasoning"
    domain = f"{kind}/{category.split('/')[-1]}"
    task = task.lower()
    task = f"{task.split('/')[0]}/attribute" if "attribute" in task else task
    return kind, domain, f"{domain}/{task}"
