"""From the scores of single answers to metrics with their errors, over everything and over every part."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import variance

from experiments.records.schema import Mean, Metric, MetricSpec


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


def breakdown(scores: Iterable[tuple[float, Collection[str]]]) -> dict[str, Mean]:
    """The mean of every part of the samples, by the part's name, in alphabetical order.

    Each score comes with the parts that its sample belongs to: none, one or several (say, "short" and "Sports"). A part
    that is named twice for one sample counts once.
    """
    by_part: dict[str, list[float]] = {}
    for score, parts in scores:
        for part in set(parts):
            by_part.setdefault(part, []).append(score)
    return {part: Mean.of(members) for part, members in sorted(by_part.items())}


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
