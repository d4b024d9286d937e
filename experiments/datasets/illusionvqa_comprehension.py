"""IllusionVQA comprehension: what an optical illusion shows."""

from dataclasses import dataclass
from typing import ClassVar

from emloc.options import Count
from experiments.datasets.illusionvqa import IllusionVQA


@dataclass(frozen=True, kw_only=True)
class IllusionVQAComprehension(IllusionVQA):
    """435 questions with three to six options on 370 images; 335 are evaluated.

    The public implementation cannot run it with demonstrations; here it has the ones that its rule gives.
    """

    name: ClassVar[str] = "illusionvqa_comprehension"
    hub_id: ClassVar[str] = "csebuetnlp/illusionVQA-Comprehension"

    rows: Count | None = 435
