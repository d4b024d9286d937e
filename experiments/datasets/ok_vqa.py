"""OK-VQA: questions about images that need knowledge from elsewhere, each answered by ten people."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from emloc.options import Count
from emloc.prompt import Visual
from experiments.datasets.base import Sample
from experiments.datasets.published import Published
from experiments.datasets.source import Row
from experiments.metrics import vqa_accuracy
from experiments.records.schema import MetricSpec


@dataclass(frozen=True, kw_only=True)
class OKVQA(Published):
    """5,046 questions, of which 4,946 are evaluated; a demonstration gives the answer that most people gave.

    Layout of the user turn: image, question, suffix, with nothing in between.
    """

    name: ClassVar[str] = "ok_vqa"
    hub_id: ClassVar[str] = "lmms-lab/OK-VQA"
    split: ClassVar[str] = "val2014"
    columns: ClassVar[tuple[str, ...]] = ("question", "answers", "question_type", "answer_type")
    metrics: ClassVar[tuple[MetricSpec, ...]] = (MetricSpec("VQA accuracy"),)
    stop: ClassVar[str | None] = "ASSISTANT:"
    wording: ClassVar[Mapping[str, str]] = {
        "suffix": "\nSay Unanswerable if this cannot be known.\nOne word or a short phrase is enough."
    }

    rows: Count | None = 5046
    max_new_tokens: Count = 128
    visual_tokens: Count | None = 256

    def score(self, prediction: str, sample: Sample) -> Mapping[str, float]:
        return {"VQA accuracy": vqa_accuracy(prediction, sample.reference, scoring=self.scoring)}

    def sample(self, id: str, row: Row, visual: Visual) -> Sample:
        answers = row.texts("answers")
        kind = row.part("question_type")
        parts = (f"question_type/{kind}", f"answer_type/{row.part('answer_type')}")
        question = f"{row.text('question')}{self.prompts['suffix']}"
        (label, _), *_ = Counter(answers).most_common(1)  # of several, the one that comes first
        return Sample(id, visual, label, question, group=kind, parts=parts, reference=answers)
