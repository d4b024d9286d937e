"""Intervals: Wilson's against scipy and its formula, the bootstrap, shares that stay shares, and logarithmic ones."""

import math

import numpy as np
import pytest
from scipy import stats

from analysis.runs.intervals import are_hits, on_a_log_axis, over_queries, over_seeds
from experiments.records.schema import Mean

Z = 1.959964


def interval_of(scores: np.ndarray, unit: str = "%", *, known: bool = True) -> tuple[float, float]:
    """The interval of a record with the mean of these scores."""
    mean = Mean.of(list(scores))
    stderr = math.nan if mean.stderr is None else mean.stderr
    return over_queries(mean.value, stderr, mean.n, unit, scores if known else None).ends


@pytest.mark.parametrize(("hits", "n"), [(0, 20), (1, 20), (13, 20), (20, 20), (1500, 1597)])
def test_hits_and_misses_have_wilsons_interval(hits: int, n: int) -> None:
    scores = np.array([1.0] * hits + [0.0] * (n - hits))
    low, high = interval_of(scores, known=False)
    expected = stats.binomtest(hits, n).proportion_ci(0.95, "wilson")
    assert (low, high) == (expected.low, expected.high)
    share, factor = hits / n, 1 + Z**2 / n  # the formula (Wilson 1927), written out
    middle, half = share + Z**2 / (2 * n), Z * math.sqrt(share * (1 - share) / n + Z**2 / (4 * n**2))
    assert (low, high) == (pytest.approx((middle - half) / factor, abs=1e-6), pytest.approx((middle + half) / factor))
    assert 0 <= low < high <= 1


def test_hits_are_known_by_their_spread() -> None:
    assert are_hits(0.25, (0.25 * 0.75 / 19) ** 0.5, 20)
    rng = np.random.default_rng(1)
    for _ in range(50):
        graded = Mean.of(list(rng.choice([0.0, 0.3, 0.6, 1.0], 40)))
        assert graded.stderr is not None
        assert not are_hits(graded.value, graded.stderr, graded.n)
    assert not are_hits(1.2, 0.1, 20)  # no share at all


def test_graded_scores_have_the_bootstrap() -> None:
    scores = np.random.default_rng(0).choice([0.0, 0.3, 1.0], 400)
    low, high = interval_of(scores)
    half = Z * scores.std(ddof=1) / 20
    assert (low, high) == (pytest.approx(scores.mean() - half, abs=0.01), pytest.approx(scores.mean() + half, abs=0.01))
    assert (low, high) == interval_of(scores)  # the same every time
    skewed = np.array([0.3] + [1.0] * 19)
    assert 0.3 <= interval_of(skewed)[0] < interval_of(skewed)[1] <= 1


def test_unknown_scores_have_the_normal_interval_inside_of_what_a_share_can_be() -> None:
    scores = np.array([0.9] + [1.0] * 19)
    low, high = interval_of(scores, known=False)
    half = Z * scores.std(ddof=1) / math.sqrt(20)
    assert (low, high) == (pytest.approx(scores.mean() - half), 1.0)
    assert interval_of(scores, "", known=False)[1] == pytest.approx(scores.mean() + half)  # CIDEr may be above 1
    assert np.isnan(interval_of(scores[:1])).all()


def test_intervals_over_seeds_stay_inside_of_a_share() -> None:
    assert over_seeds([0.80, 0.776], "%").ends == (pytest.approx(0.6355, abs=1e-3), pytest.approx(0.9405, abs=1e-3))
    assert over_seeds([0.95, 0.60], "%").ends == (0.0, 1.0)  # 77.5 ± 222 points
    assert over_seeds([0.95, 0.60]).high > 1
    assert np.isnan(over_seeds([0.5]).ends).all()
    assert np.isnan(over_seeds([0.5, 0.5], "%").ends).all()


def test_intervals_on_a_log_axis_end_above_0() -> None:
    low, high = on_a_log_axis([1e-4, 1e-3, 1e-2]).ends
    assert 0 < low < 1e-4 < 1e-2 < high
    assert math.sqrt(low * high) == pytest.approx(1e-3)
    assert np.isnan(on_a_log_axis([0.0, 1.0]).ends).all()
