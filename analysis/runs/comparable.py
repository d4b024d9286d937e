"""Which settings a comparison of layers shows: one per method and importance, at as equal lengths as the runs allow."""

import pandas as pd

from analysis.runs.naming import VARIANT

EQUAL = 0.1  # a larger relative difference of context lengths is named
_STEP = 0.02  # relative differences smaller than this do not count


def comparable(cell: pd.DataFrame) -> pd.DataFrame:
    """One setting of every method and importance that prunes, of equal shots and, as nearly as possible, kept tokens.

    If several choices are equally good, the one with the most of them, then the most shots, the most seeds, the
    smallest limit and the best scores is taken. Empty if nothing was pruned.
    """
    pruned = cell[(cell["tokens_kept"] > 0) & (cell["tokens_kept"] < cell["tokens_full"])]
    choices = [_nearest(pruned, anchor) for anchor in pruned.to_dict("records")]
    return min(choices, key=_rank) if choices else pruned


def mismatch(chosen: pd.DataFrame) -> float:
    """Relative difference of the longest and the shortest context."""
    return chosen["tokens_kept"].max() / chosen["tokens_kept"].min() - 1


def _nearest(pruned: pd.DataFrame, anchor: dict) -> pd.DataFrame:
    """The anchor, and of all other methods and importances the setting nearest to its length, the best of several."""
    same = pruned[pruned["shots"] == anchor["shots"]]
    steps = ((same["tokens_kept"] / anchor["tokens_kept"] - 1).abs() / _STEP).round()
    # The anchor comes before others of its kind that are as near, or it would never be compared itself.
    is_anchor = (same["label"] == anchor["label"]) & (same["delta"].eq(anchor["delta"]) | same["delta"].isna())
    ranked = same.assign(_steps=steps.mask(is_anchor, -1.0), _better=_better(same))
    ranked = ranked.sort_values([*VARIANT, "_steps", "_better"], ascending=[True, True, True, False], kind="stable")
    return same.loc[ranked.groupby(VARIANT, sort=True).head(1).index]


def _better(settings: pd.DataFrame) -> pd.Series:
    """Scores, negated if lower is better."""
    return settings["value"].where(settings["higher_is_better"], -settings["value"])


def _rank(chosen: pd.DataFrame) -> tuple[object, ...]:
    limit = chosen["delta"].min()
    return (
        -len(chosen),
        round(mismatch(chosen) / _STEP),
        -chosen["shots"].iloc[0],
        -chosen["seeds"].sum(),
        limit if pd.notna(limit) else 0.0,
        -_better(chosen).sum(),
        tuple(chosen["label"]),
    )
