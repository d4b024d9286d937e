"""95 % intervals: of one run over its queries, and of a setting over its seeds. Those of a share end at 0 and 1."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats  # comes with scikit-learn

CONFIDENCE = 0.95
SHARE = "%"  # the unit of scores that cannot be below 0 or above 1
_RESAMPLES = 2000
_BATCH = 100  # resamples drawn at once: 100 x 10,000 queries take 8 MB
_SAME = 1e-6  # relative; a standard error as near as this to that of hits and misses is theirs


@dataclass(frozen=True)
class Interval:
    """The ends of an interval; NaN where they are not known."""

    low: float = math.nan
    high: float = math.nan

    @property
    def ends(self) -> tuple[float, float]:
        """Both."""
        return self.low, self.high


def over_queries(value: float, stderr: float, n: int, unit: str, scores: np.ndarray | None = None) -> Interval:
    """Of one run's score: what other queries of the same kind could have given, on the same demonstrations.

    Hits and misses: Wilson's interval. Other scores: the percentile bootstrap over `scores` ((n,), one per query), or,
    where they are not known, the normal approximation from the standard error.
    """
    if n < 1 or math.isnan(stderr):
        return Interval()
    if unit == SHARE and are_hits(value, stderr, n):
        return wilson(round(value * n), n)
    if scores is not None and len(scores) > 1 and np.ptp(scores) > 0:
        return bootstrap(scores)
    half = float(stats.norm.ppf((1 + CONFIDENCE) / 2)) * stderr
    return _inside(value - half, value + half, unit)


def are_hits(value: float, stderr: float, n: int) -> bool:
    """Whether every one of the n scores must have been 0 or 1, read off their mean and standard error.

    Of all scores between 0 and 1 with this mean, only those at the ends spread so far.
    """
    if not 0 <= value <= 1 or n < 2:
        return False
    return math.isclose(stderr, math.sqrt(value * (1 - value) / (n - 1)), rel_tol=_SAME, abs_tol=1e-9)


def wilson(hits: int, n: int) -> Interval:
    """Wilson's score interval of a proportion (Wilson 1927); not of width 0 where all or none of n are hits."""
    found = stats.binomtest(hits, n).proportion_ci(CONFIDENCE, method="wilson")
    return Interval(float(found.low), float(found.high))


def bootstrap(scores: np.ndarray) -> Interval:
    """The percentile bootstrap's interval of the mean of scores (n,), of which there are at least two."""
    # Percentiles of means of scores can't leave the range of the scores; a fixed seed, so that pages stay the same.
    found = stats.bootstrap(
        (scores,), np.mean, n_resamples=_RESAMPLES, batch=_BATCH, confidence_level=CONFIDENCE, method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval  # fmt: skip
    return Interval(float(found.low), float(found.high))


def over_seeds(values: Sequence[float], unit: str = "") -> Interval:
    """Student's t-interval of a mean over seeds, which choose the demonstrations; unknown of fewer than two values.

    It is also unknown where all values are equal: a score that no seed changed has no spread to judge by.
    """
    mean, half = float(np.mean(values)), t_interval(values)
    return _inside(mean - half, mean + half, unit) if half > 0 else Interval()


def on_a_log_axis(values: Sequence[float]) -> Interval:
    """Student's t-interval of the logarithms, so that its low end stays above 0 on a logarithmic axis.

    Its middle is the geometric mean. Unknown as in `over_seeds`, and where a value is not above 0.
    """
    series = pd.Series(values, dtype=float).dropna()
    if (series <= 0).any():
        return Interval()
    of_logs = over_seeds(list(np.log(series))) if len(series) else Interval()
    return Interval(math.exp(of_logs.low), math.exp(of_logs.high))


def t_interval(values: Sequence[float]) -> float:
    """Half the width of the 95 % Student t-interval of a mean; NaN for fewer than two values."""
    series = pd.Series(values, dtype=float).dropna()
    if len(series) < 2:
        return math.nan
    return float(stats.t.ppf((1 + CONFIDENCE) / 2, len(series) - 1) * series.sem())


def _inside(low: float, high: float, unit: str) -> Interval:
    """Cut to what a share can be: the mean of shares is in there, so nothing is lost."""
    return Interval(max(low, 0.0), min(high, 1.0)) if unit == SHARE else Interval(low, high)
