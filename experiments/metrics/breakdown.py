"""From the scores of single answers to metrics with their errors, over everything and over every part."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import variance

from experiments.metrics import Mean, MetricSpec, breakdown
from experiments.records.record import Metric


@dataclass(frozen=True)
class Scored:
    """The scores of one answer, by metric, and the parts of the dataset that it counts in.

    `prediction`, `target` and `reference` (see `Sample`) are what scores over several answers are made of.
    """

    scores: Mapping[str, float]
    parts: Sequence[str]
    prediction: str = ""
    target: str = ""
    reference: object = None


def measured(spec: MetricSpec, scored: Sequence[Scored]) -> Metric:
    """Mean and standard error over all answers, and those of every part."""
    whole = Mean.of([answer.scores[spec.name] for answer in scored])
    parts = breakdown((answer.scores[spec.name], answer.parts) for answer in scored)
    return Metric(spec.name, whole.value, whole.stderr, whole.n, spec.higher_is_better, parts, spec.unit)


def jackknife_stderr(
    statistic: Callable[[Sequence[int]], Mapping[str, float]], groups: Sequence[str], *, most: int = 20
) -> dict[str, float] | None:
    """Standard errors of statistics over items that belong to groups, such as clips to videos; None for one group.

    The delete-a-group jackknife: the groups are dealt out to `most` bins at the most, in the order in which they first
    occur, and the statistics are computed anew without each bin. `statistic` takes the numbers of the items kept.
    """
    names = list(dict.fromkeys(groups))
    bins = min(most, len(names))
    if bins < 2:
        return None
    dealt = {name: number % bins for number, name in enumerate(names)}
    without = [statistic([n for n, group in enumerate(groups) if dealt[group] != left]) for left in range(bins)]
    return {name: ((bins - 1) ** 2 / bins * variance(values[name] for values in without)) ** 0.5 for name in without[0]}
