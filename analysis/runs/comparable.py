"""Which settings a comparison of layers shows: one per method, at as equal a context length as the runs allow."""

import pandas as pd

EQUAL = 0.1  # a larger relative difference of context lengths is named
_STEP = 0.02  # relative differences below this are no reason to prefer one choice


def comparable(cell: pd.DataFrame) -> pd.DataFrame:
    """One setting of every method that prunes, of equal shots and, as nearly as possible, equal kept tokens.

    Of equally good choices, that with most methods, then most shots, most seeds, the smallest limit and the best scores
    is taken. Empty if nothing was pruned.
    """
    pruned = cell[(cell["tokens_kept"] > 0) & (cell["tokens_kept"] < cell["tokens_full"])]
    choices = [_nearest(pruned, anchor) for anchor in pruned.to_dict("records")]
    return min(choices, key=_rank) if choices else pruned


def mismatch(chosen: pd.DataFrame) -> float:
    """Relative difference of the longest and the shortest context."""
    return chosen["tokens_kept"].max() / chosen["tokens_kept"].min() - 1


def _nearest(pruned: pd.DataFrame, anchor: dict) -> pd.DataFrame:
    """Of every method the setting whose context is nearest in length to the anchor's, of those the best; the anchor."""
    same = pruned[pruned["shots"] == anchor["shots"]]
    steps = ((same["tokens_kept"] / anchor["tokens_kept"] - 1).abs() / _STEP).round()
    is_anchor = (same["label"] == anchor["label"]) & (same["delta"].eq(anchor["delta"]) | same["delta"].isna())
    ranked = same.assign(_steps=steps.mask(is_anchor, -1.0), _better=_better(same))
    ranked = ranked.sort_values(["method", "_steps", "_better"], ascending=[True, True, False], kind="stable")
    return same.loc[ranked.groupby("method", sort=True).head(1).index]


def _better(settings: pd.DataFrame) -> pd.Series:
    """Scores, those that are better when lower with their sign changed."""
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
