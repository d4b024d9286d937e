"""Runs that differ only in the seed -> one row per setting, with an interval and what it covers."""

import math
from collections.abc import Sequence

import pandas as pd
from scipy.special import stdtrit  # comes with scikit-learn

CELL = ["dataset", "model", "metric"]  # scores are compared within one of these only
SETTING = [*CELL, "method", "label", "shots", "delta"]
CONFIDENCE = 0.95
OVER_SEEDS = "95 % t-interval over seeds"
OVER_QUERIES = "standard error over queries"
UNKNOWN = "unknown"
_MEANS = ("tokens_full", "tokens_kept", "compression", "bytes_full", "bytes_kept", "js_heldout", "agreement",
          "baseline_chance", "baseline_majority", "seconds_compress", "seconds_query", "queries_per_second",
          "layer_forwards")  # fmt: skip


def settings(runs: pd.DataFrame) -> pd.DataFrame:
    """One row per setting, means over its seeds.

    Besides the columns of `SETTING` and the means: seeds (how many), seed_list, n (queries of all seeds together),
    value (mean); query_stderr: standard error over the queries of one run (root mean square over seeds); seed_t95:
    half the width of the 95 % t-interval over seeds, NaN for one seed; interval: seed_t95 where seeds differ, else
    query_stderr (equal seeds do not make a score certain); interval_kind says which;
    tokens_kept_t95: as seed_t95, of the context length; js_max: the worst chunk of all seeds, nats; unit: of a hundred
    times the value, which is what tables and figures show.
    """
    groups = runs.groupby(SETTING, dropna=False, sort=True)
    rows = [{**dict(zip(SETTING, key, strict=True)), **_aggregate(group)} for key, group in groups]
    return pd.DataFrame(rows)


def _aggregate(group: pd.DataFrame) -> dict[str, object]:
    stderr, seeds = _root_mean_square(group["stderr"]), t_interval(group["value"])
    interval, kind = _interval(stderr, seeds)
    return {
        "seeds": group["seed"].nunique(),
        "seed_list": ", ".join(str(seed) for seed in sorted(group["seed"].unique())),
        "n": int(group["n"].sum()),
        "value": group["value"].mean(),
        "query_stderr": stderr,
        "seed_t95": seeds,
        "interval": interval,
        "interval_kind": kind,
        "unit": group["unit"].iloc[0],
        "higher_is_better": bool(group["higher_is_better"].all()),
        "tokens_kept_t95": t_interval(group["tokens_kept"]),
        "js_max": group["js_max"].max(),
        **{name: group[name].mean() for name in _MEANS},
    }


def t_interval(values: Sequence[float]) -> float:
    """Half the width of the 95 % Student t-interval of a mean; NaN for fewer than two values."""
    series = pd.Series(values, dtype=float).dropna()
    if len(series) < 2:
        return math.nan
    return float(stdtrit(len(series) - 1, (1 + CONFIDENCE) / 2) * series.std(ddof=1) / math.sqrt(len(series)))


def _interval(stderr: float, seeds: float) -> tuple[float, str]:
    if seeds > 0:
        return seeds, OVER_SEEDS
    return stderr, UNKNOWN if math.isnan(stderr) else OVER_QUERIES


def _root_mean_square(values: pd.Series) -> float:
    return math.sqrt((values**2).mean())


def several(values: pd.Series) -> bool:
    """Whether there are different values; unknown ones are alike."""
    return len(values.unique()) > 1


def bars(rows: pd.DataFrame) -> str:
    """What the intervals of some settings are, for a caption."""
    kinds = sorted(set(rows["interval_kind"]) - {UNKNOWN})
    if len(kinds) == 2:
        return f"{OVER_SEEDS} ({OVER_QUERIES} where one seed or no difference)"
    return kinds[0] if kinds else "none, for a single query"
