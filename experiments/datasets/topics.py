"""Topics: a word and its definition -> the field it belongs to."""

from dataclasses import dataclass
from typing import ClassVar

from experiments.datasets.bundled_texts import BundledTexts

TOPICS = (
    "law", "biology", "Greek mythology", "chemistry", "music", "physics", "military", "computer science",
    "mathematics", "sport", "medicine", "cooking",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Topics(BundledTexts):
    """Twelve fields, of which the first ten are used unless `class_count` says otherwise; WordNet 3.0."""

    name: ClassVar[str] = "topics"
    all_classes: ClassVar[tuple[str, ...]] = TOPICS

    question: str = "{text}\nTopic:"
