"""The picture of a training: hit rates over the steps of all stages, one after the other."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import pandas as pd

from experiments.records.look import COLOURS, COLUMN, DPI, STYLE

SERIES = {
    "hits": "vision: nearest drawing is of the same class (128-way)",
    "hits_full": "text: right label, full attention",
    "hits_sparse": "text: right label, sparse attention",
}


def draw_curve(table: Path, picture: Path) -> None:
    """`table` (stage, step, name, value) drawn into `picture`."""
    rows = pd.read_csv(table)
    stages = list(dict.fromkeys(rows["stage"]))
    first = rows.groupby("stage")["step"].max().reindex(stages).cumsum().shift(fill_value=0)
    rows["total"] = rows["step"] + rows["stage"].map(first)
    with plt.rc_context(dict(STYLE)):
        _draw(rows, first, picture)


def _draw(rows: pd.DataFrame, first: pd.Series, picture: Path) -> None:
    figure, axes = plt.subplots(figsize=(COLUMN, 3.4), layout="constrained")
    for (name, label), mark, colour in zip(SERIES.items(), "osv", COLOURS, strict=False):
        part = rows[rows["name"] == name]
        axes.plot(part["total"], part["value"], f"{mark}-", color=colour, markersize=2, linewidth=1, label=label)
    for stage, start in first.items():
        axes.axvline(start, color="0.8", linewidth=0.8, zorder=0)
        axes.text(start, 1.01, f" {stage}", rotation=60, fontsize=7, va="bottom")
    axes.set(xlabel="steps, all stages", ylabel="share of right answers", ylim=(0, 1))
    figure.legend(loc="outside lower left")
    picture.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(picture, dpi=DPI)
    plt.close(figure)
