"""IllusionVQA soft localisation: which of two drawn objects is geometrically impossible."""

from dataclasses import dataclass
from typing import ClassVar

from emloc.options import Count
from experiments.datasets.illusionvqa import IllusionVQA


@dataclass(frozen=True, kw_only=True)
class IllusionVQASoftLocalization(IllusionVQA):
    """1,000 rows on 60 drawings, with the options left, right, both and neither; 900 are evaluated."""

    name: ClassVar[str] = "illusionvqa_soft_localization"
    hub_id: ClassVar[str] = "csebuetnlp/illusionVQA-Soft-Localization"

    rows: Count | None = 1000
