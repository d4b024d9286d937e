"""Tables and figures of real runs: what is shown, what is bold, and that the same records give the same bytes."""

import csv
import io
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex

from analysis.figures.axes import draw_reference
from analysis.figures.catalogue import drawings, options_words, pareto_words, unequal
from analysis.figures.curves import curves
from analysis.figures.layers import budgets, kinds
from analysis.figures.options import alternatives, options
from analysis.figures.pareto import beside, front, pareto
from analysis.figures.style import PRUNED, Look, look, new_figure
from analysis.pages.tables import comparison, costs, escaped, latex, markdown, other_metrics, text_csv
from analysis.runs.comparable import comparable, mismatch
from analysis.runs.layers import KINDS, layer_rows, totals
from analysis.runs.load import Loaded, load
from analysis.runs.seeds import settings
from tests.support.sweep import MATCHED, SEEDS, VARIED, edit

pytest_plugins = ["tests.support.sweep_fixtures"]


@pytest.fixture(scope="module")
def loaded(finished_sweep: Path, tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    """The sweep with scores that differ: those of random weights are all 0."""
    root = shutil.copytree(finished_sweep, tmp_path_factory.mktemp("scored") / "sweep")
    for number, folder in enumerate(sorted(root.iterdir())):
        edit(folder, lambda record, value=0.3 + number / 100: record["metric"].update(value=value, stderr=0.05))
    return load([root])


@pytest.fixture
def cell(loaded: Loaded) -> pd.DataFrame:
    return settings(loaded.runs)


def the(cell: pd.DataFrame, label: str, shots: int = 10, delta: float | None = None) -> pd.Series:
    """The one setting."""
    limit = cell["delta"].isna() if delta is None else cell["delta"] == delta
    found = cell[(cell["label"] == label) & (cell["shots"] == shots) & limit]
    assert len(found) == 1
    return found.iloc[0]


def line(axes: Axes, colour: str) -> np.ndarray:
    """Points (x, y) of the one line with markers of this colour."""
    found = [one for one in axes.lines if to_hex(one.get_color()) == colour.lower() and len(one.get_xdata()) > 1]
    drawn = [one for one in found if one.get_linestyle() != "None"]
    assert len(drawn) == 1
    return np.array(drawn[0].get_data()).T


def scores(sweep: Path, name: str, *, better: bool, value: float) -> None:
    for seed in SEEDS:
        edit(sweep / f"{name}-{seed}", lambda record: record["metric"].update(value=value, higher_is_better=better))


def test_comparison_has_every_setting_and_shows_what_is_missing(cell: pd.DataFrame) -> None:
    table = comparison(cell)
    assert list(table.headers) == ["method", "delta", "10 shots", "20 shots"]
    assert table.title == "Scores: digits, random, accuracy (%), 20 queries"
    rows = {(row[0].text, row[1].text): [one.text for one in row[2:]] for row in table.rows}
    assert len(rows) == len(cell.groupby(["label", "delta"], dropna=False))
    assert rows["pyramidkv", "–"][1] == "–"
    assert "–" not in rows["none", "–"]
    assert any("no finished run (6 of 16 cells)" in note for note in table.notes)


def test_cell_is_score_interval_and_counts(sweep: Path) -> None:
    for seed, value in zip(SEEDS, (0.2, 0.21), strict=True):
        edit(sweep / f"1-{seed}", lambda record, new=value: record["metric"].update(value=new))
    row = the(settings(load([sweep]).runs), "none")
    texts = [one.text for line in comparison(settings(load([sweep]).runs)).rows for one in line]
    assert f"20.5 [{100 * row['low']:.1f}, {100 * row['high']:.1f}] (2 × 20)" in texts
    edit(sweep / "1-0", lambda record: record["metric"].update(stderr=None, n=1))
    table = markdown(costs(settings(load([sweep / "1-0"]).runs)))
    assert "20.0 (1)" in table


@pytest.mark.parametrize("better", [True, False])
def test_best_follows_the_direction_of_the_metric(sweep: Path, better: bool) -> None:
    for number in range(len(VARIED)):
        scores(sweep, str(number), better=better, value=0.5 + number / 100)
    for method in MATCHED:
        scores(sweep, method, better=better, value=0.55)
    table = comparison(settings(load([sweep]).runs))
    bold = [(row[0].text, row[1].text, place) for row in table.rows for place, one in enumerate(row) if one.bold]
    # Of 10 shots, runs 0 to 3, 6 and 7 compete; of 20 shots, 4 (emloc) and 5 (none).
    best = [("emloc", "0", 2), ("none", "–", 3)] if better else [("emloc", "0.005", 2), ("emloc", "0.005", 3)]
    assert sorted(bold) == sorted(best)


def test_a_score_without_a_unit_is_no_percentage(sweep: Path) -> None:
    for name in ("1-0", "5-0"):
        edit(sweep / name, lambda record: record["metric"].update(name="CIDEr", value=1.234, unit=""))
    cell = settings(load([sweep / "1-0", sweep / "5-0"]).runs)
    table = markdown(costs(cell))
    assert "| CIDEr |" in table
    assert "123.4 [" in table
    assert comparison(cell).title == "Scores: digits, random, CIDEr, 20 queries"
    figure = curves(cell, "shots")
    assert figure.axes[0].get_ylabel() == "CIDEr"
    assert line(figure.axes[0], look("none").colour)[0, 1] == pytest.approx(123.4)
    assert "%" not in pareto_words(cell)


def test_other_metrics_have_a_table_per_dataset(sweep: Path) -> None:
    for name, value in (("1-0", 0.25), ("0-0", 0.75)):
        edit(sweep / name, lambda record, new=value: record.update(other_metrics=[other(record, new)]))
    others = settings(load([sweep]).others)
    (table,) = other_metrics(others)
    assert table.title == "Other metrics: digits, random, CIDEr, 20 queries, 10 shots"
    rows = {row[0].text: (row[2].text, row[2].bold) for row in table.rows}
    assert rows == {"emloc": ("75.0 [73.0, 77.0] (20)", True), "none": ("25.0 [23.0, 27.0] (20)", False)}


def other(record: dict[str, Any], value: float) -> dict[str, Any]:
    return {**record["metric"], "name": "CIDEr", "value": value, "stderr": 0.01, "unit": ""}


def test_costs_have_one_row_per_setting(cell: pd.DataFrame) -> None:
    table = costs(cell)
    assert len(table.rows) == len(cell)
    assert all(len(row) == len(table.headers) for row in table.rows)
    zero_shot = next(row for row in table.rows if row[1].text == "zero_shot")
    assert [one.text for one in zero_shot][5:7] == ["0 of 0", "–"]


def test_formats_hold_the_same_cells(cell: pd.DataFrame) -> None:
    table = comparison(cell)
    rows = list(csv.reader(io.StringIO(text_csv(table))))
    assert rows == [list(table.headers), *([one.text for one in row] for row in table.rows)]
    assert markdown(table).splitlines()[2].count("|") == len(table.headers) + 1
    body = latex(table).split("\\midrule\n")[1].split("\\bottomrule")[0].strip().splitlines()
    assert len(body) == len(table.rows)
    assert all(row.count("&") == len(table.headers) - 1 and row.endswith(r" \\") for row in body)
    assert r"zero\_shot" in latex(table)
    assert escaped("5 % & ±") == r"5 \% \& $\pm$"


def test_methods_look_different_and_always_the_same() -> None:
    assert look("emloc") == look("emloc") == Look("#D55E00", "o")  # as in figures that are printed already
    looks = [look(name) for name in ("emloc", "none", "zero_shot", "snapkv", "pyramidkv")]
    assert len({one.colour for one in looks}) == len({one.marker for one in looks}) == len(looks)
    assert look("a_method_of_tomorrow").colour.startswith("#")


def test_curves_show_the_settings(cell: pd.DataFrame) -> None:
    figure = curves(cell, "shots")
    score, context = figure.axes
    for label, delta in (("emloc", 0.005), ("none", None)):
        few, many = the(cell, label, 10, delta), the(cell, label, 20, delta)
        points = line(context, look(label).colour)
        assert points[:, 0] == pytest.approx([10, 20], rel=0.05)
        assert points[:, 1] == pytest.approx([few["tokens_kept"], many["tokens_kept"]])
        assert line(score, look(label).colour)[:, 1] == pytest.approx([100 * few["value"], 100 * many["value"]])
    assert {text.get_text() for text in figure.legends[0].texts} == {"emloc, delta 0.005", "none"}
    few = the(cell, "emloc", 10, 0.005)
    ends = [bar.get_segments()[0][:, 1] for bar in score.collections]
    assert any(list(found) == pytest.approx([100 * few["low"], 100 * few["high"]]) for found in ends)


def test_delta_curve_has_zero_and_references(cell: pd.DataFrame) -> None:
    figure = curves(cell, "delta")
    score, context = figure.axes
    # Not joined: on a logarithmic axis 0 is infinitely far away.
    assert list(line(context, look("emloc").colour)[:, 0]) == pytest.approx([0, np.nan, 0.005, 0.02], nan_ok=True)
    assert context.get_xscale() == "symlog"
    names = {text.get_text() for text in figure.legends[0].texts}
    assert names == {"emloc, 10 shots", "none", "zero_shot"}
    assert list(line(score, look("none").colour)[:, 1]) == [100 * the(cell, "none")["value"]] * 2


def test_far_references_are_told_and_not_drawn() -> None:
    _, axes = new_figure(1, height=2)
    axes[0, 0].set_ylim(80, 100)
    assert draw_reference(axes[0, 0], 65, "#000000", "near")
    assert axes[0, 0].get_ylim() == (63, 100)
    assert not draw_reference(axes[0, 0], 20, "#000000", "far")
    assert axes[0, 0].get_ylim() == (63, 100)
    assert list(axes[0, 0].get_legend_handles_labels()[1]) == ["near", "far: 20.0 ↓"]


def test_points_of_equal_length_stand_beside_each_other() -> None:
    points = {"method": ["a", "a", "b", "b", "c"], "tokens_kept": [100.0, 101.0, 101.0, 200.0, 99.5], "importance": ""}
    drawn = beside(pd.DataFrame(points, index=[9, 7, 5, 3, 1]))
    assert list(drawn[[9, 7, 3]]) == [100, 101, 200]  # alone, or beside their own method only
    step = (200 / 99.5) ** 0.015  # of the axis
    assert drawn[5] / 101 == pytest.approx(step)
    assert drawn[1] / 99.5 == pytest.approx(step**2)


def test_no_tick_label_hides_another(cell: pd.DataFrame) -> None:
    limits = (0, 0.001, 0.002, 0.005, 0.01, 0.05)
    many = pd.concat([cell[cell["delta"] == 0.005].assign(delta=limit) for limit in limits], ignore_index=True)
    for axis, figure in (("delta", curves(many, "delta")), ("shots", curves(cell, "shots"))):
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        low, high = figure.axes[1].get_xlim()
        labels = [tick.label1 for tick in figure.axes[1].xaxis.get_major_ticks() if low <= tick.get_loc() <= high]
        assert len(labels) == len(set(many[axis] if axis == "delta" else cell[axis]))
        boxes = [label.get_window_extent(canvas.get_renderer()) for label in labels]
        assert all(one.x1 < two.x0 for one, two in pairwise(boxes))


def test_no_curve_where_nothing_varies(finished_sweep: Path) -> None:
    one = settings(load([finished_sweep / "0-0"]).runs)
    assert curves(one, "shots") is None
    assert curves(one, "delta") is None
    assert pareto(one) is not None
    assert pareto(settings(load([finished_sweep / "3-0"]).runs)) is None  # no context at all


@pytest.mark.parametrize(("better", "kept"), [(True, [100, 300]), (False, [100, 200])])
def test_front(better: bool, kept: list[int]) -> None:
    points = pd.DataFrame(
        {"tokens_kept": [100, 200, 300, 400], "value": [0.5, 0.4, 0.7, 0.7], "higher_is_better": better}
    )
    assert list(front(points)["tokens_kept"]) == kept


def test_options_show_every_alternative(cell: pd.DataFrame) -> None:
    figure = options(cell)
    score, context = figure.axes
    rows = [the(cell, f"snapkv budget={budget}") for budget in ("0.2", "that of emloc (delta 0.005)")]
    assert [text.get_text() for text in score.texts] == [row["label"] for row in rows]
    for axes, expected in (
        (score, [100 * row["value"] for row in rows]),
        (context, [row["tokens_kept"] for row in rows]),
    ):
        points = [one for one in axes.lines if one.get_marker() == look("snapkv").marker]
        assert [one.get_xdata()[0] for one in points] == pytest.approx(expected)
        assert [one.get_ydata()[0] for one in points] == [0, 1]
    assert options(cell[cell["method"] == "none"]) is None


def test_options_are_in_the_order_of_their_numbers(cell: pd.DataFrame) -> None:
    one = the(cell, "none").to_dict()
    sizes = (100, 5, 20)
    many = pd.DataFrame([{**one, "label": f"none chunk_size={size}"} for size in sizes])
    names = [f"none chunk_size={size}" for size in (5, 20, 100)]
    assert list(alternatives(many)["label"]) == names
    words = "How options change the score and the context length, at 10 shots. none chunk_size=5: "
    assert words in options_words(many)


def test_layers_are_compared_at_equal_length(cell: pd.DataFrame) -> None:
    chosen = comparable(cell)
    assert list(chosen["label"]) == ["emloc", "pyramidkv", "snapkv budget=that of emloc (delta 0.005)"]
    assert mismatch(chosen) < 0.05
    assert list(unequal(cell)) == []
    apart = cell[cell["label"] != chosen["label"].iloc[-1]]
    assert "different context lengths (emloc 43, pyramidkv 43, snapkv budget=0.2 88 tokens)" in next(unequal(apart))
    assert comparable(cell[cell["method"] == "none"]).empty


@pytest.mark.parametrize(("better", "best"), [(True, "snapkv importance=answers"), (False, "snapkv importance=window")])
def test_of_equally_long_settings_of_a_method_the_best_is_compared(cell: pd.DataFrame, better: bool, best: str) -> None:
    one = the(cell, "snapkv budget=that of emloc (delta 0.005)").to_dict()
    two = [
        {**one, "label": f"snapkv importance={name}", "value": value}
        for name, value in (("answers", 0.9), ("window", 0.8))
    ]
    rest = cell[cell["method"].isin(["emloc", "pyramidkv"])]
    chosen = comparable(pd.concat([rest, pd.DataFrame(two)], ignore_index=True).assign(higher_is_better=better))
    assert list(chosen["label"]) == ["emloc", "pyramidkv", best]


def test_methods_are_compared_on_heldout_queries_where_all_have_them(sweep: Path) -> None:
    for number, folder in enumerate(sorted(sweep.iterdir())):
        layers = pd.read_csv(folder / "layers.csv")["layer"].nunique()
        by_layer = [0.1 / (1 + layer + number) for layer in range(layers)]
        edit(folder, lambda record, new=by_layer: record["js"].update(heldout_per_layer=new))
    found = load([sweep])
    chosen = comparable(settings(found.runs))
    divergence = budgets(found.layers, chosen).axes[1]
    assert divergence.get_ylabel() == "JS on held-out queries\n(nats)"
    rows = layer_rows(found.layers, chosen)
    for setting in chosen.to_dict("records"):
        expected = rows[rows["label"] == setting["label"]].groupby("layer")["js_heldout"]
        expected = np.exp(expected.apply(lambda of: np.log(of).mean()))  # the mean on a logarithmic axis
        assert line(divergence, look(setting["method"]).colour)[:, 1] == pytest.approx(expected.to_numpy())


def test_budgets_show_every_layer(loaded: Loaded, cell: pd.DataFrame) -> None:
    chosen = comparable(cell)
    kept, divergence = budgets(loaded.layers, chosen).axes
    for row in chosen.to_dict("records"):
        points = line(kept, look(row["method"]).colour)
        assert len(points) == 4
        assert points[:, 1].mean() == pytest.approx(row["tokens_kept"])
    assert len(line(divergence, look("emloc").colour)) == 4
    assert (
        line(divergence, look("snapkv").colour)[0, 1]
        == the(cell, "snapkv budget=that of emloc (delta 0.005)")["js_max"]
    )


def test_kinds_add_up_to_the_whole_context(loaded: Loaded, cell: pd.DataFrame) -> None:
    whole = totals(loaded.layers).set_index("demonstrations_id")
    assert len(whole) == 2 * len(SEEDS)  # 10 and 20 shots
    tokens = loaded.runs.set_index("demonstrations_id")["tokens_full"]
    for name, row in whole.iterrows():
        assert sum(row[f"{kind}_total"] for kind in KINDS) == tokens[name].max()
    figure = kinds(loaded.layers, comparable(cell))
    colours = {to_hex(bar.get_facecolor()) for axes in figure.axes for bar in axes.patches}
    assert colours == {look(name).colour.lower() for name in ("emloc", "snapkv", "pyramidkv")} | {PRUNED.lower()}


def test_unknown_totals_are_said(finished_sweep: Path) -> None:
    alone = load([finished_sweep / "2-0"])
    figure = kinds(alone.layers, comparable(settings(alone.runs)))
    assert "pruned tokens are not known" in " ".join(figure._supxlabel.get_text().split())
    words = {drawing.name: drawing.words for drawing in drawings(settings(alone.runs), alone.layers)}
    assert "an unknown share of the image tokens" in words["token_kinds"]


def test_one_figure_per_dataset(sweep: Path) -> None:
    for seed in SEEDS:
        for number in (1, 5):
            edit(sweep / f"{number}-{seed}", lambda record: record["config"]["dataset"].update(_target_="a.other.O"))
    found = load([sweep])
    names = [drawing.name for drawing in drawings(settings(found.runs), found.layers)]
    assert {"shots-other", "pareto-other", "pareto-digits", "shots-digits"} <= set(names)
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(("better", "words"), [(True, "up and left"), (False, "down and left")])
def test_words_follow_the_direction_of_the_metric(cell: pd.DataFrame, better: bool, words: str) -> None:
    assert f"{words} is better" in pareto_words(cell.assign(higher_is_better=better))
