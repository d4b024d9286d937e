"""Languages: what a language calls a country or territory -> the language."""

from dataclasses import dataclass
from typing import ClassVar

from experiments.datasets.bundled_texts import BundledTexts

LANGUAGES = {  # code in CLDR -> label; the first ten are of seven branches, the others make it harder
    "de": "German", "fr": "French", "es": "Spanish", "it": "Italian", "pl": "Polish", "fi": "Finnish",
    "hu": "Hungarian", "tr": "Turkish", "vi": "Vietnamese", "sv": "Swedish", "nl": "Dutch", "pt": "Portuguese",
    "ro": "Romanian", "cs": "Czech", "id": "Indonesian", "lt": "Lithuanian", "lv": "Latvian", "et": "Estonian",
    "is": "Icelandic", "cy": "Welsh",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Languages(BundledTexts):
    """Twenty languages in Latin letters, of which the first ten are used unless `class_count` says otherwise; CLDR.

    The same place can occur in several languages, never under the same name.
    """

    name: ClassVar[str] = "languages"
    all_classes: ClassVar[tuple[str, ...]] = tuple(LANGUAGES.values())

    question: str = "Place: {text}\nLanguage:"
