"""Figures from runs; every point with its standard error."""

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Okabe and Ito's palette, told apart by colour-blind readers too; one colour per method everywhere.
COLOURS = {"none": "#0072B2", "emloc": "#D55E00", "snapkv": "#009E73", "pyramidkv": "#CC79A7", "zero_shot": "#555555"}


def curve(runs: pd.DataFrame, x: str) -> Figure:
    """Accuracy (top) and kept context tokens (bottom) against `x` (shots or delta), a column per dataset."""
    datasets = sorted(runs["dataset"].unique())
    size = (4.2 * len(datasets), 5.2)
    figure, axes = plt.subplots(2, len(datasets), figsize=size, sharex=True, squeeze=False, layout="constrained")
    for column, dataset in enumerate(datasets):
        here = runs[runs["dataset"] == dataset]
        for method in sorted(here["method"].unique()):
            _draw(axes[0, column], axes[1, column], here[here["method"] == method].sort_values(x), x, method)
        _label(axes[0, column], axes[1, column], dataset, x)
    return figure


def _draw(accuracy: Axes, context: Axes, runs: pd.DataFrame, x: str, method: str) -> None:
    colour = COLOURS.get(method)
    accuracy.errorbar(
        runs[x], 100 * runs["value"], 100 * runs["stderr"].fillna(0), label=method, color=colour, marker="o", capsize=3
    )
    context.plot(runs[x], runs["tokens_kept"], label=method, color=colour, marker="o")


def _label(accuracy: Axes, context: Axes, dataset: str, x: str) -> None:
    accuracy.set_title(dataset)
    accuracy.set_ylabel("accuracy (%), bars: standard error")
    accuracy.set_ylim(0, 100)
    context.set_ylabel("context tokens per KV head")
    context.set_yscale("log")
    context.set_xscale("log")
    context.set_xlabel({"shots": "demonstrations (shots)", "delta": "delta (nats)"}[x])
    accuracy.legend(frameon=False)
    for axis in (accuracy, context):
        axis.grid(alpha=0.3)
