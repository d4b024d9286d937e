"""ScreenSpot: where on a screenshot a command points to."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from emloc.options import Count
from emloc.prompt import Visual
from experiments.datasets.base import Sample
from experiments.datasets.published import Published
from experiments.datasets.source import Row
from experiments.metrics import box_scores
from experiments.metrics.boxes import THRESHOLDS
from experiments.records.schema import MetricSpec

_PLATFORMS = {"ios": "mobile", "android": "mobile", "macos": "desktop", "windows": "desktop"}  # all others: web


@dataclass(frozen=True, kw_only=True)
class ScreenSpot(Published):
    """1,272 commands, of which 1,172 are evaluated; a demonstration answers with its box, all decimals included.

    Layout of the user turn: screenshot, preamble, command, with nothing in between.
    """

    name: ClassVar[str] = "screenspot"
    hub_id: ClassVar[str] = "rootsautomation/ScreenSpot"
    split: ClassVar[str] = "test"
    columns: ClassVar[tuple[str, ...]] = ("bbox", "instruction", "data_type", "data_source")
    metrics: ClassVar[tuple[MetricSpec, ...]] = (
        MetricSpec("centre accuracy"),
        MetricSpec("IoU"),
        *(MetricSpec(f"ACC@{threshold}") for threshold in THRESHOLDS),
    )
    stop: ClassVar[str | None] = "ASSISTANT:"
    wording: ClassVar[Mapping[str, str]] = {
        "preamble": (
            "Which place on this screen does the following command mean? Answer with its box as "
            "[left, top, right, bottom], in shares of the screen's width and height from 0 to 1, with two decimals. "
            "Command: "
        )
    }

    rows: Count | None = 1272
    max_new_tokens: Count = 128
    visual_tokens: Count | None = 256

    def score(self, prediction: str, sample: Sample) -> Mapping[str, float]:
        return box_scores(prediction, sample.reference, scoring=self.scoring)

    def sample(self, id: str, row: Row, visual: Visual) -> Sample:
        box = row.numbers("bbox", 4)
        if not all(map(math.isfinite, box)) or box[0] > box[2] or box[1] > box[3]:
            raise row.wrong("bbox", "left, top, right and bottom of a box")
        kind = row.part("data_type")
        question = f"{self.prompts['preamble']}{row.text('instruction')}"
        part = f"{_PLATFORMS.get(row.part('data_source'), 'web')}/{kind}"
        return Sample(id, visual, str(box), question, group=kind, parts=(part,), reference=tuple(box))
