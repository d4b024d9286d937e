"""Which settings share the best score: those that a test on the same queries does not tell from the best one."""

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd
from scipy import stats  # comes with scikit-learn

from analysis.runs.intervals import CONFIDENCE, bootstrap
from analysis.runs.scores import ScoresOf

_LEVEL = 1 - CONFIDENCE


def sharing(of_settings: Mapping[int, pd.DataFrame], scores: ScoresOf) -> list[int]:
    """The setting with the best mean, and all that do not differ from it; none if there is nothing to compare.

    of_settings: number -> the runs of that setting (columns as `load` gives them), all by one metric and on the same
    queries.
    """
    if len(of_settings) < 2:
        return []
    means = {number: runs["value"].mean() for number, runs in of_settings.items()}
    up = all(runs["higher_is_better"].all() for runs in of_settings.values())
    top = (max if up else min)(means, key=lambda number: means[number])
    return [number for number, runs in of_settings.items() if not differ(of_settings[top], runs, scores)]


def differ(one: pd.DataFrame, two: pd.DataFrame, scores: ScoresOf) -> bool:
    """Whether two settings' scores differ, at a level of 5 %.

    Seeds that both have: a t-test of the differences, with the variance over seeds and, where single scores are known,
    that over queries (both are shared by many of the differences, so neither may be taken for many independent ones).
    One seed: McNemar's exact test for hits and misses, else the paired bootstrap over queries. Where the single scores
    of the one seed are not known, or no seed is common: the standard errors of both, as if they had other queries.
    """
    pairs = one.merge(two, on="seed", suffixes=("_1", "_2"))
    single = [_differences(pair, scores) for pair in pairs.to_dict("records")]
    known = [of for of in single if of is not None]
    if len(pairs) > 1:
        return _over_seeds(pairs["value_1"] - pairs["value_2"], known if len(known) == len(single) else [])
    return _over_queries(known[0]) if known else _unpaired(one, two)


def _differences(pair: dict, scores: ScoresOf) -> np.ndarray | None:
    """(n,) differences query by query; None if they are not known, or the queries are not the same."""
    one, two = scores(pair["path_1"]), scores(pair["path_2"])
    first = one.of(pair["metric_1"], pair["value_1"])
    second = two.of(pair["metric_2"], pair["value_2"])
    return None if first is None or second is None or one.queries != two.queries else first - second


def _over_seeds(means: pd.Series, single: list[np.ndarray]) -> bool:
    """From a difference per seed, and the differences of single queries in every seed or none."""
    of_seeds, of_queries = means.var(ddof=1) / len(means), 0.0
    freedom = float(len(means) - 1)
    if single and len({len(one) for one in single}) == 1 and len(single[0]) > 1:
        by_query = np.mean(single, axis=0)
        of_queries = float(by_query.var(ddof=1) / len(by_query))
        freedom = _freedom((of_seeds, len(means)), (of_queries, len(by_query)))
    variance = of_seeds + of_queries
    if variance == 0:
        return bool(means.iloc[0] != 0)
    return bool(2 * stats.t.sf(abs(means.mean()) / math.sqrt(variance), freedom) < _LEVEL)


def _freedom(*parts: tuple[float, int]) -> float:
    """Satterthwaite's degrees of freedom of a sum of (variance, number of values)."""
    total = sum(variance for variance, _ in parts)
    if total == 0:
        return 1.0
    return total**2 / sum(variance**2 / (count - 1) for variance, count in parts)


def _over_queries(differences: np.ndarray) -> bool:
    lost, won = int((differences < 0).sum()), int((differences > 0).sum())
    if lost + won == 0:
        return False
    if np.isin(differences, (-1.0, 0.0, 1.0)).all():
        return bool(stats.binomtest(won, lost + won).pvalue < _LEVEL)  # McNemar's test: only unequal pairs count
    if len(differences) < 2:
        return False
    found = bootstrap(differences)
    return not found.low <= 0 <= found.high


def _unpaired(one: pd.DataFrame, two: pd.DataFrame) -> bool:
    variance = sum(float((runs["stderr"] ** 2).mean(skipna=False)) for runs in (one, two))
    apart = abs(one["value"].mean() - two["value"].mean())
    return bool(apart > stats.norm.ppf(1 - _LEVEL / 2) * math.sqrt(variance))  # NaN, an unknown error, is no difference
