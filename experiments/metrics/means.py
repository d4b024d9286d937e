"""What a metric is, and the mean of its scores, over all samples and over parts of them."""

import statistics
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class MetricSpec:
    """What a dataset reports: the name of its metric, which way is up, and the unit of a hundred times its value."""

    name: str
    higher_is_better: bool = True
    unit: str = "%"  # empty for scores that are no share of anything, such as CIDEr


@dataclass(frozen=True)
class Mean:
    """A mean with its standard error, which is None for a single score, and the number of scores in it."""

    value: float
    stderr: float | None
    n: int

    @classmethod
    def of(cls, scores: Sequence[float]) -> "Mean":
        """See `mean_and_stderr`."""
        return cls(*mean_and_stderr(scores), len(scores))


def mean_and_stderr(scores: Sequence[float]) -> tuple[float, float | None]:
    """The mean, and its standard error: the sample standard deviation (n - 1) over the square root of n.

    The standard error of a single score is unknown: None, not 0. ValueError if there are no scores.
    """
    if not scores:
        raise ValueError("the mean of no scores is undefined")
    mean = statistics.fmean(scores)
    return mean, statistics.stdev(scores, mean) / len(scores) ** 0.5 if len(scores) > 1 else None


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
