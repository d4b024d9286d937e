"""Novels: a passage of about 220 words by Jane Austen -> the novel it is from. The task with long demonstrations."""

from dataclasses import dataclass
from typing import ClassVar

from experiments.datasets.bundled_texts import BundledTexts

NOVELS = (  # in the order of the letters
    "Emma", "Mansfield Park", "Northanger Abbey", "Persuasion", "Pride and Prejudice", "Sense and Sensibility",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Novels(BundledTexts):
    """Six novels, in the public domain. A demonstration has about 320 tokens.

    Style tells little, since the author is the same; people and places that the demonstrations name tell more.
    """

    name: ClassVar[str] = "novels"
    files: ClassVar[tuple[str, ...]] = ("novels_pool.csv", "novels_query.csv")
    all_classes: ClassVar[tuple[str, ...]] = NOVELS

    question: str = "{text}\n\nNovel:"
    class_count: int = 6
