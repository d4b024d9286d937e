"""From the scores of single answers to metrics with their errors, over everything and over every part."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from experiments.metrics import MetricSpec, mean_and_stderr
from experiments.record import Metric, Part


@dataclass(frozen=True)
class Scored:
    """The scores of one answer, by metric, and the parts of the dataset that it counts in.

    `prediction` and `reference` are what scores over several answers are made of.
    """

    scores: Mapping[str, float]
    parts: Sequence[str]
    prediction: str = ""
    reference: object = None


def measured(spec: MetricSpec, scored: Sequence[Scored]) -> Metric:
    """Mean and standard error over all answers, and those of every part."""
    by_part: dict[str, list[float]] = {}
    for answer in scored:
        for part in answer.parts:
            by_part.setdefault(part, []).append(answer.scores[spec.name])
    parts = {name: Part(*mean_and_stderr(scores), len(scores)) for name, scores in sorted(by_part.items())}
    value, stderr = mean_and_stderr([answer.scores[spec.name] for answer in scored])
    return Metric(spec.name, value, stderr, len(scored), spec.higher_is_better, parts, spec.unit)
