"""Kinds: a word and its definition -> the kind of thing that it means."""

from dataclasses import dataclass
from typing import ClassVar

from experiments.datasets.bundled_texts import BundledTexts

KINDS = {  # number of the lexicographer file in WordNet -> label
    5: "animal", 20: "plant", 13: "food", 8: "body", 6: "artifact", 15: "location", 28: "time", 25: "shape",
    27: "substance", 10: "communication", 23: "quantity", 21: "possession",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Kinds(BundledTexts):
    """Twelve kinds of things, of which the first ten are used unless `class_count` says otherwise; WordNet 3.0."""

    name: ClassVar[str] = "kinds"
    all_classes: ClassVar[tuple[str, ...]] = tuple(KINDS.values())

    question: str = "{text}\nKind:"
