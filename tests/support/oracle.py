"""A model that knows every answer: all of a run is real but what the model says."""

from collections.abc import Sequence
from typing import Any, ClassVar

from emloc import Query
from emloc.backbones.qwen2_vl import Qwen2VL


class Oracle(Qwen2VL):
    """Answers a query with what `answers` has under its id."""

    answers: ClassVar[dict[str, str]] = {}

    def answer(self, queries: Sequence[Query], memory: Any = None, **_: Any) -> list[str]:
        return [self.answers[query.id] for query in queries]
