"""What runs are called: short names of the options in which they differ, and no more."""

from typing import Any

import pandas as pd

from analysis.runs.checks import check
from analysis.runs.load import load
from analysis.runs.naming import options_of, with_labels
from analysis.runs.seeds import settings
from experiments.records.names import USUAL, component
from tests.support.runs import ROOT, composed

Stage = dict[str, Any]


def test_usual_stages_are_those_of_the_configuration() -> None:
    for method, stages in USUAL.items():
        node = composed(f"method={method}").method
        assert {stage: component(node[stage]) for stage in stages} == stages, method


def labels(*methods: dict[str, Any]) -> list[str]:
    """The labels of runs that differ in their methods only."""
    runs = pd.DataFrame(
        {"dataset": "digits", "model": "tiny", "method": map(component, methods), "path": map(str, range(len(methods)))}
    ).assign(run_id=lambda table: table["path"])
    records = {str(number): {"config": {"method": method}, "dtype": "float32"} for number, method in enumerate(methods)}
    return list(with_labels(runs, records)["label"])


def method(
    name: str, importance: dict[str, Any] | None, allocation: dict[str, Any] | None, **own: Any
) -> dict[str, Any]:
    return {
        "_target_": f"emloc.methods.{name}.A",
        "chunk_size": 4,
        **own,
        "importance": importance,
        "allocation": allocation,
    }


def stage(name: str, **options: Any) -> Stage:
    return {"_target_": f"emloc.stage.{name}.A", **options}


WINDOW, ANSWERS = stage("window", window=32, kernel=5), stage("answers")
UNIFORM, SEARCH = stage("uniform", budget=0.2), stage("layer_search", delta=0.005, ratios=[0.1, 0.5], group=1)


def test_usual_chains_are_called_as_their_method() -> None:
    assert labels(method("snapkv", WINDOW, UNIFORM), method("emloc", ANSWERS, SEARCH), method("none", None, None)) == [
        "snapkv", "emloc", "none",
    ]  # fmt: skip


def test_importances_are_told_apart_without_their_options() -> None:
    assert labels(method("snapkv", WINDOW, UNIFORM), method("snapkv", ANSWERS, UNIFORM)) == [
        "snapkv importance=window", "snapkv importance=answers",
    ]  # fmt: skip


def test_another_chain_says_so_even_if_it_is_alone() -> None:
    assert labels(method("emloc", WINDOW, SEARCH)) == ["emloc importance=window"]
    assert labels(method("emloc", ANSWERS, UNIFORM)) == ["emloc allocation=uniform"]


def test_crossed_stages_are_in_the_order_of_the_chain() -> None:
    crossed = [method("emloc", one, other) for one in (ANSWERS, WINDOW) for other in (SEARCH, UNIFORM)]
    assert labels(*crossed) == [
        "emloc importance=answers allocation=layer_search", "emloc importance=answers allocation=uniform",
        "emloc importance=window allocation=layer_search", "emloc importance=window allocation=uniform",
    ]  # fmt: skip
    assert labels(*crossed[:2]) == ["emloc allocation=layer_search", "emloc allocation=uniform"]
    assert labels(*crossed[1::2]) == [
        "emloc importance=answers allocation=uniform", "emloc importance=window allocation=uniform",
    ]  # fmt: skip


def test_options_of_a_stage_have_short_names() -> None:
    wide = {**WINDOW, "kernel": 7}
    crossed = [method("snapkv", one, UNIFORM) for one in (WINDOW, wide, ANSWERS)]
    assert labels(*crossed) == [
        "snapkv importance=window kernel=5", "snapkv importance=window kernel=7", "snapkv importance=answers",
    ]  # fmt: skip
    assert labels(method("emloc", ANSWERS, SEARCH), method("emloc", ANSWERS, {**SEARCH, "group": 2})) == [
        "emloc group=1", "emloc group=2",
    ]  # fmt: skip
    assert labels(method("snapkv", WINDOW, UNIFORM), method("snapkv", WINDOW, {**UNIFORM, "budget": 0.5})) == [
        "snapkv budget=0.2", "snapkv budget=0.5",
    ]  # fmt: skip


def test_a_name_that_the_method_has_too_is_written_in_full() -> None:
    narrow = {**WINDOW, "window": 8}
    videos = [method("emloc_video", importance, SEARCH, window=64) for importance in (WINDOW, narrow)]
    assert labels(*videos) == [
        "emloc_video importance=window importance.window=32", "emloc_video importance=window importance.window=8",
    ]  # fmt: skip


def test_the_limit_is_no_part_of_the_label() -> None:
    assert labels(method("emloc", ANSWERS, SEARCH), method("emloc", ANSWERS, {**SEARCH, "delta": 0.1})) == ["emloc"] * 2


def test_an_option_that_earlier_runs_lack_has_its_neutral_value() -> None:
    now = method("emloc", ANSWERS, SEARCH, novelty=None)
    earlier = method("emloc", ANSWERS, {key: value for key, value in SEARCH.items() if key != "group"})
    assert labels(now, earlier) == ["emloc", "emloc"]
    grouped = method("emloc", ANSWERS, {**SEARCH, "group": 2}, novelty="mean")
    assert labels(grouped, now, earlier) == ["emloc novelty=mean group=2", *["emloc novelty=null group=1"] * 2]


def test_a_refit_that_is_null_missing_or_none_is_no_refit() -> None:
    none, values = stage("none"), stage("values", ridge=0.003)
    alike = [method("emloc", ANSWERS, SEARCH, **refit) for refit in ({}, {"refit": None}, {"refit": none})]
    alike[-1]["refit"]["_target_"] = "emloc.refit.none.NoRefit"
    assert labels(*alike) == ["emloc"] * 3
    fitted = method("emloc", ANSWERS, SEARCH, refit=values)
    assert labels(*alike, fitted) == [*["emloc refit=none"] * 3, "emloc refit=values"]


def test_stages_are_options_of_the_page() -> None:
    record = {"config": {"method": method("snapkv", WINDOW, None)}, "dtype": "float32"}
    assert options_of(record) == {
        "method.importance": "window", "method.importance.window": "32", "method.importance.kernel": "5",
        "method.allocation": "null", "dtype": "float32", "method.chunk_size": "4",
    }  # fmt: skip


def test_a_simulated_memory_is_called_so() -> None:
    four, eight = (method("quantised", None, None, bits=bits) for bits in (4, 8))
    assert labels(four, eight, method("none", None, None)) == [
        "quantised (simulated) bits=4", "quantised (simulated) bits=8", "none",
    ]  # fmt: skip


def test_budgets_matched_to_different_settings_are_different_settings() -> None:
    """Both sweeps match schedules to emloc, with other ratios: 661 and 190 tokens are no two seeds of one setting."""
    records = ROOT / "analysis/notebooks/records"
    loaded = load([records / "table_main.jsonl", records / "fig4_layers.jsonl"])
    assert not [problem for problem in check(loaded) if "several different runs of one seed" in problem]
    rows = settings(loaded.runs).query("dataset == 'digits' and method == 'snapkv' and importance == 'window'")
    assert sorted(rows["tokens_kept"].round()) == [190, 661]
    assert sorted(rows["label"].str.contains(r"that of emloc ratios=\[0.1,0.2,0.5\]")) == [False, True]
