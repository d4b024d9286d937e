"""What layers keep, as tables: sums over chunks, and how many tokens of every kind a context has."""

import pandas as pd

from analysis.runs.seeds import SETTING

KINDS = ("image", "question", "answer")
_KEPT = [f"{kind}_kept" for kind in KINDS]


def layer_rows(layers: pd.DataFrame, chosen: pd.DataFrame) -> pd.DataFrame:
    """The rows of `layers` that belong to the chosen settings."""
    keys = chosen[SETTING].assign(_chosen=True)
    return layers.merge(keys, on=SETTING, how="inner").drop(columns="_chosen")


def per_layer(layers: pd.DataFrame) -> pd.DataFrame:
    """One row per run and layer: tokens are sums over chunks, `js` and `js_heldout` (nats) are means over chunks."""
    keys = [*SETTING, "seed", "run_id", "demonstrations_id", "layer"]
    sums = ["tokens_before", "tokens_kept", *_KEPT]
    return layers.groupby(keys, dropna=False, as_index=False, sort=True).agg(
        {**dict.fromkeys(sums, "sum"), "js": "mean", "js_heldout": "mean"}
    )


def totals(layers: pd.DataFrame) -> pd.DataFrame:
    """Tokens of every kind that a context has: read off any layer, of any run on it, that kept everything.

    Columns dataset, model, demonstrations_id, image_total, question_total, answer_total.
    """
    rows = per_layer(layers)
    whole = rows[rows["tokens_kept"] == rows["tokens_before"]]
    keys = ["dataset", "model", "demonstrations_id"]
    renamed = dict(zip(_KEPT, [f"{kind}_total" for kind in KINDS], strict=True))
    return whole.groupby(keys, as_index=False)[_KEPT].first().rename(columns=renamed)
