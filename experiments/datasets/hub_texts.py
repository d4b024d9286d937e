"""Sets with many classes that are on the Hub, with the columns as they were published: TREC, BANKING77, CLINC150."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from experiments.datasets.text_classification import TextClassification

_CONVERTED = "refs/convert/parquet"  # the Hub's own conversion, where a set is a program, which `datasets` 4 refuses


@dataclass(frozen=True, kw_only=True)
class Trec(TextClassification):
    """Questions by what they ask for: 6 classes, or 50 with `label_column=fine_label`."""

    name: ClassVar[str] = "trec"
    usual_names: ClassVar[Mapping[str, str]] = {
        "ABBR": "abbreviation", "ENTY": "entity", "DESC": "description", "HUM": "person", "LOC": "location",
        "NUM": "number",
    }  # fmt: skip

    hub_id: str | None = "CogComp/trec"
    revision: str | None = _CONVERTED
    label_column: str = "coarse_label"
    question: str = "Question: {text}\nType:"


@dataclass(frozen=True, kw_only=True)
class Banking77(TextClassification):
    """What customers of a bank want: 77 intents."""

    name: ClassVar[str] = "banking77"

    hub_id: str | None = "PolyAI/banking77"
    revision: str | None = _CONVERTED
    question: str = "Customer: {text}\nIntent:"
    max_new_tokens: int = 24


@dataclass(frozen=True, kw_only=True)
class Clinc150(TextClassification):
    """What users of an assistant want: 150 intents, and oos for what is none of them."""

    name: ClassVar[str] = "clinc150"

    hub_id: str | None = "clinc/clinc_oos"
    subset: str | None = "plus"
    label_column: str = "intent"
    question: str = "User: {text}\nIntent:"
    max_new_tokens: int = 24
