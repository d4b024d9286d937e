"""Can figures be read rightly: bars on logarithmic axes, variants of a method, what is left out, sizes and greys."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text

from analysis.figures.catalogue import Drawing, drawings
from analysis.figures.curves import curves
from analysis.figures.layers import budgets
from analysis.figures.options import alternatives, options
from analysis.figures.style import COLOURS, COLUMN, PRUNED, look
from analysis.runs.comparable import comparable
from analysis.runs.load import load
from analysis.runs.naming import variant_names
from analysis.runs.seeds import settings
from tests.support.runs import ROOT

RECORDS = ROOT / "analysis/notebooks/records"
PAGE = 342  # pixels for a figure on a page that is 390 wide
POINTS = 72  # per inch
VARIANTS = [f"{method} importance={scores}" for method in ("pyramidkv", "snapkv") for scores in ("answers", "window")]


@pytest.fixture(scope="module")
def drawn() -> dict[str, Drawing]:
    """Every kind of figure, of the bundled runs; by its name."""
    found: dict[str, Drawing] = {}
    for name in ("fig4_layers", "fig1_shots", "fig3_delta"):
        loaded = load([RECORDS / f"{name}.jsonl"])
        cell = settings(loaded.runs[loaded.runs["dataset"] == "digits"])
        found = {**{drawing.name: drawing for drawing in drawings(cell, loaded.layers)}, **found}
    assert set(found) == {"shots", "delta", "options", "pareto", "layer_budgets", "token_kinds"}
    return found


def ends(axes: Axes, axis: int) -> Iterator[float]:
    """All ends of the error bars along an axis (0: x, 1: y)."""
    for bars in axes.collections:
        if isinstance(bars, LineCollection):
            for segment in bars.get_segments():
                if len(segment) and np.ptp(segment[:, axis]) > 0:  # none beside a gap in a line
                    yield from segment[:, axis]


def names(figure: Figure) -> list[str]:
    return [text.get_text() for legend in figure.legends for text in legend.texts]


def note(figure: Figure) -> str:
    """The small text below a figure."""
    return " ".join(text.get_text() for text in figure.texts).replace("\n", " ")


def test_bars_on_log_axes_end_above_0(drawn: dict[str, Drawing]) -> None:
    counted = 0
    for drawing in drawn.values():
        for axes in drawing.figure.axes:
            for axis, scale in enumerate((axes.get_xscale(), axes.get_yscale())):
                found = list(ends(axes, axis)) if scale == "log" else []
                assert all(end > 0 for end in found), drawing.name
                counted += len(found)
    assert counted > 50


def test_a_wide_spread_of_divergences_has_a_bar_on_the_log_axis() -> None:
    """Seeds a factor of ten apart: a symmetric interval of their mean would go below 0, down the whole axis."""
    loaded = load([RECORDS / "fig4_layers.jsonl"])
    cell = settings(loaded.runs[loaded.runs["dataset"] == "digits"])
    spread = loaded.layers["seed"].map({0: 1e-4, 1: 1e-3, 2: 1e-2})
    figure = budgets(loaded.layers.assign(js_heldout=spread), comparable(cell))
    assert figure is not None
    divergence = figure.axes[1]
    assert divergence.get_yscale() == "log"
    found = sorted(set(np.round(np.log10(list(ends(divergence, 1))), 3)))
    half = 4.30265 / 3**0.5  # in powers of ten: Student's t of three values with a standard deviation of 1
    assert found == [pytest.approx(max(-3 - half, -6), abs=1e-3), pytest.approx(-3 + half, abs=1e-3)]


def test_context_lengths_of_one_seed_have_no_bars() -> None:
    loaded = load([RECORDS / "fig1_shots.jsonl"])
    runs = loaded.runs[(loaded.runs["dataset"] == "digits") & (loaded.runs["seed"] == 0)]
    figure = curves(settings(runs), "shots")
    assert figure is not None
    assert list(ends(figure.axes[1], 1)) == []
    assert len(list(ends(figure.axes[0], 1))) == 2 * len(runs)  # over queries
    assert "bars: 95 % interval over queries" in note(figure)


@pytest.mark.parametrize("name", ["layer_budgets", "pareto", "token_kinds", "options"])
def test_window_and_probes_variants_are_told_apart(drawn: dict[str, Drawing], name: str) -> None:
    figure = drawn[name].figure
    written = [*names(figure), *(text.get_text() for axes in figure.axes for text in axes.texts)]
    assert all(any(text.startswith(variant) for text in written) for variant in VARIANTS), written
    for method in ("snapkv", "pyramidkv"):
        of = look(method)
        markers = [one for axes in figure.axes for one in axes.lines if one.get_marker() == of.marker]
        assert {one.get_markerfacecolor() for one in markers} == {of.colour, "white"}
        assert {one.get_color() for one in markers} == {of.colour}


def test_a_method_with_one_kind_of_scores_has_its_own_name() -> None:
    rows = pd.DataFrame({"method": ["emloc", "snapkv", "none"], "importance": ["answers", "answers", ""]})
    assert set(variant_names(rows).values()) == {"emloc", "snapkv importance=answers", "none"}
    assert look("snapkv", "window") == look("snapkv")
    assert look("snapkv", "answers").fill == "none"


def test_figures_say_what_they_leave_out(drawn: dict[str, Drawing]) -> None:
    loaded = load([RECORDS / "fig1_shots.jsonl"])
    cell = settings(loaded.runs[loaded.runs["dataset"] == "digits"])
    chosen = comparable(cell)
    pruning = cell[(cell["tokens_kept"] > 0) & (cell["tokens_kept"] < cell["tokens_full"])]
    others = len(pruning) - len(chosen)
    assert others > 1
    (drawing,) = (one for one in drawings(cell, loaded.layers) if one.name == "layer_budgets")
    assert f"{others} other settings are left out" in note(drawing.figure)
    assert " Left out: emloc (10 shots, delta 0.005); " in drawing.words
    one = cell[cell["shots"] == 200]
    extra = one.assign(label="snapkv", method="snapkv", importance="window", delta=np.nan).iloc[:1]
    figure = curves(pd.concat([cell, extra], ignore_index=True), "shots")
    assert figure is not None
    assert "1 other setting is left out" in note(figure)
    assert "left out" not in note(curves(cell, "shots") or Figure())


def test_options_of_every_method_are_drawn(drawn: dict[str, Drawing]) -> None:
    loaded = load([RECORDS / "fig4_layers.jsonl"])
    cell = settings(loaded.runs[loaded.runs["dataset"] == "digits"])
    assert list(alternatives(cell)["label"]) == VARIANTS  # not only those of the first method that has some
    figure = options(cell)
    assert figure is not None
    assert [text.get_text() for text in figure.axes[0].texts] == VARIANTS


def test_figures_are_legible_on_a_narrow_page(drawn: dict[str, Drawing]) -> None:
    for drawing in drawn.values():
        assert drawing.figure.get_figwidth() == COLUMN
        texts = [text for text in drawing.figure.findobj(Text) if text.get_text().strip() and text.get_visible()]
        smallest = min(text.get_fontsize() for text in texts)
        assert smallest * PAGE / (COLUMN * POINTS) >= 9.5, drawing.name  # pixels


def grey(colour: str) -> float:
    """How light it is without colour, from 0 to 1."""
    return float(np.dot(to_rgb(colour), (0.299, 0.587, 0.114)))


def test_figures_can_be_read_without_colour() -> None:
    methods = [path.stem for path in (ROOT / "conf/method").glob("*.yaml")]
    assert len(methods) > 10
    looks = [look(method) for method in methods]
    assert len({(one.colour, one.marker) for one in looks}) == len(methods)
    compared = [look(method).marker for method in ("emloc", "none", "zero_shot", "snapkv", "pyramidkv")]
    assert len(set(compared)) == len(compared)
    assert all(grey(PRUNED) - grey(colour) > 0.15 for colour in COLOURS)  # kept and pruned, in one bar
    assert grey(PRUNED) < 0.9  # and the page
