"""All figures that the settings allow, each with a caption that says what it shows."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pandas as pd
from matplotlib.figure import Figure

from analysis.figures.curves import curves, undrawn, varying
from analysis.figures.layers import budgets, kinds
from analysis.figures.options import alternatives, options, places
from analysis.figures.pareto import front, pareto
from analysis.runs.comparable import EQUAL, comparable, mismatch
from analysis.runs.layers import KINDS, layer_rows, per_layer, totals
from analysis.runs.seeds import CELL, telling
from analysis.runs.wording import interval_text, listed, with_delta

_REMEDY = "Run the others with budget=match:PATH/record.json to compare them at equal length."


@dataclass(frozen=True)
class Drawing:
    """A figure, the stem of its files, and its caption."""

    name: str
    title: str
    words: str
    figure: Figure


def drawings(settings: pd.DataFrame, layers: pd.DataFrame) -> Iterator[Drawing]:
    """Every figure that can be drawn, for every dataset, model and metric."""
    several_of = telling(settings)
    for _, cell in settings.groupby(CELL, sort=True):
        first = cell.iloc[0].to_dict()
        place = [f"{first[name]} queries" if name == "queries" else str(first[name]) for name in several_of]
        for name, title, words, figure in _of_cell(cell, layers):
            if figure is not None:
                stem = "-".join([name, *(re.sub(r"[^\w.=-]+", "_", part) for part in place)])
                yield Drawing(stem, ", ".join([title, *place]), words(), figure)


def unequal(settings: pd.DataFrame) -> Iterator[str]:
    """A sentence for every comparison of layers at lengths that are not equal."""
    for _, cell in settings.groupby(CELL, sort=True):
        chosen = comparable(cell)
        if len(chosen) > 1 and mismatch(chosen) > EQUAL:
            lengths = ", ".join(f"{row['label']} {row['tokens_kept']:,.0f}" for row in chosen.to_dict("records"))
            yield (
                f"The layers of {cell['dataset'].iloc[0]} are compared at different context lengths "
                f"({lengths} tokens). {_REMEDY}"
            )


Part = tuple[str, str, Callable[[], str], Figure | None]


def _of_cell(cell: pd.DataFrame, layers: pd.DataFrame) -> Iterator[Part]:
    chosen = comparable(cell)
    yield "shots", "Score and context length against shots", lambda: shots_words(cell), curves(cell, "shots")
    yield "delta", "Score and context length against delta", lambda: delta_words(cell), curves(cell, "delta")
    yield "options", "Score and context length by option", lambda: options_words(cell), options(cell)
    yield "pareto", "Score against context length", lambda: pareto_words(cell), pareto(cell)
    if chosen.empty:
        return
    others = _prunes(cell).drop(chosen.index)
    yield (
        "layer_budgets", "Context length and divergence per layer",
        lambda: budgets_words(layers, chosen) + _not_shown(others), budgets(layers, chosen, len(others)),
    )  # fmt: skip
    yield (
        "token_kinds", "Kept and pruned tokens by kind",
        lambda: kinds_words(layers, chosen) + _not_shown(others), kinds(layers, chosen, len(others)),
    )  # fmt: skip


def _prunes(cell: pd.DataFrame) -> pd.DataFrame:
    return cell[(cell["tokens_kept"] > 0) & (cell["tokens_kept"] < cell["tokens_full"])]


def _not_shown(rows: pd.DataFrame) -> str:
    """A sentence about the settings that a figure leaves out; empty if there are none."""
    names = [f"{row['label']} ({row['shots']} shots{with_delta(row['delta'])})" for row in rows.to_dict("records")]
    return f" Left out: {listed(names)}." if names else ""


def shots_words(cell: pd.DataFrame) -> str:
    """The scores at the most demonstrations."""
    rows = pd.concat([series.rows.tail(1) for series in varying(cell, "shots")])
    parts = [
        f"{row['label']} {interval_text(row)} with {_tokens(row)} ({row['shots']} shots)"
        for row in rows.to_dict("records")
    ]
    words = f"Score and context length as demonstrations are added. With the most of them: {'; '.join(parts)}."
    return words + _not_shown(undrawn(cell, "shots"))


def delta_words(cell: pd.DataFrame) -> str:
    """What changes from the tightest limit to the loosest."""
    parts = []
    for series in varying(cell, "delta"):
        tight, loose = (series.rows.iloc[place].to_dict() for place in (0, -1))
        parts.append(
            f"{series.name} goes from {_tokens(tight)} and {interval_text(tight)} at delta {tight['delta']:g} "
            f"to {_tokens(loose)} and {interval_text(loose)} at {loose['delta']:g}"
        )
    return (
        f"How a looser limit changes the context length and the score: {'; '.join(parts)}. "
        "Dashed lines: everything kept, or no context." + _not_shown(undrawn(cell, "delta"))
    )


def options_words(cell: pd.DataFrame) -> str:
    """The score and the context length of every alternative."""
    rows = alternatives(cell)
    parts = [f"{row['label']}: {interval_text(row)} with {_tokens(row)}" for row in rows.to_dict("records")]
    words = f"How options change the score and the context length, at {places(rows)}. {'; '.join(parts)}."
    return words + _not_shown(cell.drop(rows.index))


def pareto_words(cell: pd.DataFrame) -> str:
    """The settings that no other one beats."""
    best = front(cell[cell["tokens_kept"] > 0]).to_dict("records")
    parts = [f"{row['label']} at {row['shots']} shots ({_tokens(row)}, {interval_text(row)})" for row in best]
    better = "up" if cell["higher_is_better"].all() else "down"
    return f"Each point is a setting; {better} and left is better. Best for its length: {'; '.join(parts)}."


def budgets_words(layers: pd.DataFrame, chosen: pd.DataFrame) -> str:
    """How much the layers of every setting differ."""
    rows = per_layer(layer_rows(layers, chosen))
    parts = []
    for label, mine in rows.groupby("label", sort=True):
        kept = mine.groupby("layer")["tokens_kept"].mean()
        half = len(kept) // 2
        parts.append(f"{label} keeps {kept.iloc[:half].mean():,.0f} and {kept.iloc[half:].mean():,.0f}")
    return f"How the layers share the context. Tokens per layer in the lower and the upper half: {'; '.join(parts)}."


def kinds_words(layers: pd.DataFrame, chosen: pd.DataFrame) -> str:
    """The share of each kind of tokens that is kept."""
    rows = per_layer(layer_rows(layers, chosen))
    rows = rows.merge(totals(layers), on=["dataset", "model", "demonstrations_id"], how="left")
    parts = []
    for label, mine in rows.groupby("label", sort=True):
        shares = [f"{_share(mine, kind)} of the {kind} tokens" for kind in KINDS]
        parts.append(f"{label} keeps {', '.join(shares)}")
    return f"Which tokens are kept. {'; '.join(parts)} (all layers together)."


def _share(rows: pd.DataFrame, kind: str) -> str:
    total = rows[f"{kind}_total"].sum(skipna=False)
    return "an unknown share" if pd.isna(total) or not total else f"{rows[f'{kind}_kept'].sum() / total:.1%}"


def _tokens(row: dict) -> str:
    return f"{row['tokens_kept']:,.0f} tokens"
