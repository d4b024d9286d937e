"""Runs that differ only in the seed -> one row per setting, with an interval and what it covers."""

from collections.abc import Sequence

import pandas as pd

from analysis.runs.best import sharing
from analysis.runs.intervals import CONFIDENCE, Interval, are_hits, on_a_log_axis, over_queries, over_seeds, t_interval
from analysis.runs.scores import ScoresOf, no_scores

CELL = ["dataset", "model", "metric", "queries"]  # scores are compared within one of these only
SETTING = [*CELL, "method", "importance", "label", "shots", "delta"]
OVER_SEEDS = f"{100 * CONFIDENCE:g} % t-interval over seeds"
MEANINGS = {"seeds": OVER_SEEDS, "queries": f"{100 * CONFIDENCE:g} % interval over queries"}
_WITHOUT = {
    "seeds": "none where there is one seed, or all seeds scored the same",
    "queries": "none where there is one query",
}
_MEANS = ("tokens_full", "tokens_kept", "compression", "bytes_full", "bytes_kept", "js_sum", "js_total", "js_heldout",
          "agreement", "baseline_chance", "baseline_majority", "seconds_compress", "seconds_query",
          "queries_per_second", "layer_forwards")  # fmt: skip


def settings(runs: pd.DataFrame, scores: ScoresOf = no_scores, *, over: str | None = None) -> pd.DataFrame:
    """One row per setting, means over its seeds.

    Besides the columns of `SETTING` and the means: seeds (how many), seed_list, n (queries of all seeds together),
    value (mean); queries_low, queries_high: 95 % interval over the queries of one run (of several seeds, which share
    their queries, the mean of the ends); seeds_low, seeds_high: 95 % t-interval over seeds, NaN for one seed or equal
    ones, and seed_t95, half its width before it is cut; low, high: the one of the two that `over` ("seeds" or
    "queries") names, and interval_over, which says it: the same for all rows, so that no table or figure mixes them;
    tokens_low, tokens_high: t-interval over seeds of the context length, made for a logarithmic axis; js_max: the
    worst chunk of all seeds, nats; unit: of a hundred times the value, which is what tables and figures show; best:
    whether it has the best mean of its cell and shots, or a paired test finds no difference from that.

    Without `over` intervals are over seeds if most settings have several, else over queries. Those of a share are
    inside 0..1.
    """
    groups = list(runs.groupby(SETTING, dropna=False, sort=True))
    found = pd.DataFrame([{**dict(zip(SETTING, key, strict=True)), **_aggregate(of, scores)} for key, of in groups])
    chosen = over or ("seeds" if (found["seeds"] > 1).mean() >= 0.5 else "queries")
    best = {
        index
        for _, rows in found.groupby([*CELL, "shots"])
        for index in sharing({place: groups[place][1] for place in rows.index}, scores)
    }
    return found.assign(
        low=found[f"{chosen}_low"], high=found[f"{chosen}_high"], interval_over=chosen, best=found.index.isin(best)
    )


def _aggregate(group: pd.DataFrame, scores: ScoresOf) -> dict[str, object]:
    unit = group["unit"].iloc[0]
    seeds, tokens = over_seeds(group["value"], unit), on_a_log_axis(group["tokens_kept"])
    queries = [_over_queries(run, scores) for run in group.to_dict("records")]
    return {
        "seeds": group["seed"].nunique(),
        "seed_list": ", ".join(str(seed) for seed in sorted(group["seed"].unique())),
        "n": int(group["n"].sum()),
        "value": group["value"].mean(),
        "queries_low": _mean([one.low for one in queries]),
        "queries_high": _mean([one.high for one in queries]),
        "seeds_low": seeds.low,
        "seeds_high": seeds.high,
        "seed_t95": t_interval(group["value"]),
        "unit": unit,
        "higher_is_better": bool(group["higher_is_better"].all()),
        "tokens_low": tokens.low,
        "tokens_high": tokens.high,
        "js_max": group["js_max"].max(),
        **{name: group[name].mean() for name in _MEANS},
    }


def _over_queries(run: dict, scores: ScoresOf) -> Interval:
    known = (run["value"], run["stderr"], run["n"])
    # Hits and misses need no more than their number, so the many lines of a run's predictions are not read for them.
    single = None if are_hits(*known) else scores(run["path"]).of(run["metric"], run["value"])
    return over_queries(*known, run["unit"], single)


def _mean(ends: Sequence[float]) -> float:
    return float(pd.Series(ends).mean(skipna=False))


def telling(rows: pd.DataFrame) -> list[str]:
    """The columns of `CELL` that must be shown to tell the cells of `rows` apart."""
    *first, queries = CELL
    unequal = rows.groupby(first)["queries"].nunique().max() > 1
    return [*(name for name in first if several(rows[name])), *([queries] if unequal else [])]


def several(values: pd.Series) -> bool:
    """Whether there are different values; unknown ones are alike."""
    return len(values.unique()) > 1


def bars(rows: pd.DataFrame) -> str:
    """What the intervals of some settings are, for a caption."""
    over = str(rows["interval_over"].iloc[0])
    return MEANINGS[over] + (f" ({_WITHOUT[over]})" if rows["low"].isna().any() else "")
