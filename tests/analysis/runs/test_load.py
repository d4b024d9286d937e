"""From folders of real runs to tidy tables, and every problem on the way named."""

import ast
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from analysis.runs.checks import check, versions
from analysis.runs.intervals import t_interval, wilson
from analysis.runs.load import load
from analysis.runs.seeds import MEANINGS, bars, settings
from tests.support.runs import ROOT
from tests.support.sweep import MATCHED, SEEDS, VARIED, edit

pytest_plugins = ["tests.support.sweep_fixtures"]
RUNS = (len(VARIED) + len(MATCHED)) * len(SEEDS)


def problems(*folders: Path) -> list[str]:
    loaded = load(folders)
    return [*loaded.problems, *check(loaded)]


def the(sentences: list[str], *words: str) -> str:
    """The one sentence with all these words."""
    found = [sentence for sentence in sentences if all(word in sentence for word in words)]
    assert len(found) == 1, sentences
    return found[0]


def imported(path: Path) -> set[str]:
    """Every module that a file imports, wherever in the file."""
    nodes = list(ast.walk(ast.parse(path.read_text())))
    names = {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}
    return names | {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}


def test_analysis_reads_files_only() -> None:
    ours = {path.name for path in ROOT.iterdir() if (path / "__init__.py").exists()} - {"analysis"}
    assert {"emloc", "experiments"} <= ours
    for path in (ROOT / "analysis").rglob("*.py"):
        outside = {name for name in imported(path) if name.split(".")[0] in {*ours, "torch", "hydra", "run"}}
        assert all(name.startswith("experiments.records.") for name in outside), path


def test_analysis_loads_neither_torch_nor_the_library() -> None:
    doors = "report, claims, kept, bundle"
    code = f"import sys; from analysis import {doors}; print(*{{name.split('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not {"torch", "transformers", "hydra", "emloc"} & set(done.stdout.split())


def test_rooms_are_in_the_order_of_the_data() -> None:
    above = {"runs": {"figures", "pages"}, "figures": {"pages"}, "pages": set()}
    doors = {path.stem for path in (ROOT / "analysis").glob("*.py")} - {"__init__"}
    for room, later in above.items():
        for path in (ROOT / "analysis" / room).glob("*.py"):
            rooms = {name.split(".")[1] for name in imported(path) if name.startswith("analysis.")}
            assert not rooms & (later | doors), path


def test_every_run_is_a_row(finished_sweep: Path) -> None:
    loaded = load([finished_sweep])
    assert loaded.problems == []
    assert len(loaded.runs) == len(loaded.records) == RUNS
    for row in loaded.runs.to_dict("records"):
        record = json.loads(Path(row["path"]).read_text())
        assert (row["run_id"], row["seed"]) == (record["run_id"], record["config"]["seed"])
        assert (row["value"], row["stderr"], row["n"]) == tuple(record["metric"][k] for k in ("value", "stderr", "n"))
        assert row["tokens_kept"] == record["context"]["tokens_kept_mean"]
        assert row["delta"] == record["js"]["delta"] or (pd.isna(row["delta"]) and record["js"]["delta"] is None)


def test_layers_are_joined_to_their_run(finished_sweep: Path) -> None:
    loaded = load([finished_sweep])
    with_context = loaded.runs[loaded.runs["tokens_full"] > 0]
    assert set(loaded.layers["run_id"]) == set(with_context["run_id"])
    kept = loaded.layers.groupby(["run_id", "layer"])["tokens_kept"].sum()
    for row in with_context.to_dict("records"):
        assert kept[row["run_id"]].mean() == pytest.approx(row["tokens_kept"])
        lengths = loaded.records[row["path"]]["context"]["tokens_kept_per_layer"]
        assert list(kept[row["run_id"]]) == pytest.approx(lengths, abs=1)
    columns = ["image_kept", "question_kept", "answer_kept"]
    assert (loaded.layers[columns].sum(axis=1) - loaded.layers["tokens_kept"]).abs().max() < 1e-6


def test_a_run_folder_or_its_record_is_enough(finished_sweep: Path) -> None:
    for place in (finished_sweep / "0-0", finished_sweep / "0-0" / "record.json"):
        loaded = load([place])
        assert list(loaded.runs["method"]) == ["emloc"]
        assert loaded.problems == []


def test_differing_options_are_in_the_label(finished_sweep: Path) -> None:
    loaded = load([finished_sweep])
    labels = {label for label in loaded.runs["label"] if label.startswith("snapkv")}
    assert labels == {"snapkv budget=0.2", "snapkv budget=that of emloc (delta 0.005)"}
    assert set(loaded.runs["label"]) - labels == {"emloc", "none", "pyramidkv", "zero_shot"}


def test_option_of_the_whole_run_is_in_the_label(sweep: Path) -> None:
    edit(sweep / "1-0", lambda record: record["config"].update(answer="rank"))
    labels = set(load([sweep]).runs["label"])
    assert {"none answer=generate", "none answer=rank"} <= labels


def test_runs_on_other_queries_are_cells_of_their_own(sweep: Path) -> None:
    edit(sweep / "1-0", lambda record: (record["config"].update(limit=30), record["metric"].update(n=30)))
    loaded = load([sweep])
    assert "none" in set(loaded.runs["label"])  # the number of queries is a column, so no label repeats it
    of_none = settings(loaded.runs).query("label == 'none' and shots == 10")
    assert sorted(of_none["queries"]) == [20, 30]
    assert not of_none.set_index("queries")["best"][30]  # nothing to compare it with
    the(check(loaded), "of different queries (20; 30 of them)", "only runs on the same ones are compared")


def test_models_of_one_name_are_told_apart(sweep: Path) -> None:
    edit(sweep / "1-0", lambda record: record["config"]["model"].update(path="elsewhere/random"))
    found = load([sweep])
    assert "random path=elsewhere/random" in set(found.runs["model"])
    assert "2 models" in the(check(found), "every figure is drawn once for each", "model")


def test_seeds_become_mean_and_interval(sweep: Path) -> None:
    for number, value in enumerate((0.39, 0.41)):
        edit(sweep / f"1-{number}", lambda record, new=value: record["metric"].update(value=new, stderr=0.1))
    row = settings(load([sweep / "1-0", sweep / "1-1"]).runs).iloc[0]
    assert (row["seeds"], row["seed_list"], row["n"]) == (2, "0, 1", 40)
    assert row["value"] == pytest.approx(0.4)
    half = 12.7062 * 0.01  # Student's t of one degree of freedom
    assert row["seed_t95"] == pytest.approx(half, rel=1e-4)
    assert (row["low"], row["high"]) == (pytest.approx(0.4 - half, rel=1e-4), pytest.approx(0.4 + half, rel=1e-4))
    assert row["interval_over"] == "seeds"


def test_one_seed_has_the_interval_of_its_queries(sweep: Path) -> None:
    hits = {"value": 0.45, "stderr": (0.45 * 0.55 / 19) ** 0.5}
    edit(sweep / "1-0", lambda record: record["metric"].update(hits))
    row = settings(load([sweep / "1-0"]).runs).iloc[0]
    assert pd.isna(row["seed_t95"])
    assert row["interval_over"] == "queries"
    assert (row["low"], row["high"]) == wilson(9, 20).ends


def test_equal_seeds_have_no_interval_over_seeds(sweep: Path) -> None:
    for number in SEEDS:
        edit(sweep / f"1-{number}", lambda record: record["metric"].update(value=0.5, stderr=0.1))
    rows = settings(load([sweep / "1-0", sweep / "1-1"]).runs)
    assert rows["low"].isna().all()
    assert bars(rows) == f"{MEANINGS['seeds']} (none where there is one seed, or all seeds scored the same)"


def test_a_page_has_one_meaning_of_intervals(sweep: Path) -> None:
    """Some settings have several seeds and some one: all intervals are of the same kind, or there is none."""
    for folder in sweep.iterdir():
        edit(folder, lambda record: record["metric"].update(value=0.3 + 0.01 * record["config"]["seed"], stderr=0.1))
    shutil.rmtree(sweep / "1-1")
    rows = settings(load([sweep]).runs)
    alone = rows["seeds"] == 1
    assert alone.sum() == 1
    assert set(rows["interval_over"]) == {"seeds"}
    assert rows.loc[alone, "low"].isna().all()
    assert rows.loc[~alone, "low"].notna().all()
    over_queries = settings(load([sweep]).runs, over="queries")
    assert set(over_queries["interval_over"]) == {"queries"}
    assert over_queries["low"].notna().all()


def test_unknown_interval_stays_unknown(sweep: Path) -> None:
    edit(sweep / "1-0", lambda record: record["metric"].update(stderr=None, n=1))
    rows = settings(load([sweep / "1-0"]).runs)
    assert pd.isna(rows.iloc[0]["low"])
    assert bars(rows) == f"{MEANINGS['queries']} (none where there is one query)"


def test_t_interval_of_three() -> None:
    assert t_interval([1.0, 2.0, 3.0]) == pytest.approx(4.30265 / 3**0.5, rel=1e-5)
    assert pd.isna(t_interval([1.0]))


def test_empty_and_missing_folders(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert problems(tmp_path / "empty") == [
        f"{tmp_path / 'empty'} holds no runs: there is no record.json and no bundle (.jsonl) in it or below it."
    ]
    assert problems(tmp_path / "nowhere") == [f"{tmp_path / 'nowhere'} does not exist."]


def test_unfinished_run(sweep: Path) -> None:
    (sweep / "0-0" / "record.json").unlink()
    the(problems(sweep), str(sweep / "0-0"), "unfinished", "20 answered queries")
    (sweep / "0-0" / "predictions.jsonl").unlink()
    (sweep / "0-0" / "layers.csv").unlink()
    the(problems(sweep), str(sweep / "0-0"), "unfinished", "0 answered queries")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"schema": 3, "status": "comp', "cannot be read"),
        ("[1, 2]", "is not a record of a run"),
        ("{}", "is not a record of a run"),
        ('{"schema": 1, "status": "complete"}', "is of schema 1, which this version cannot read; its own is 3"),
        ('{"schema": 3, "status": "running"}', "has the status 'running'"),
        ('{"schema": 3, "status": "complete"}', "is damaged (KeyError: 'config')"),
        ('{"schema": 2, "status": "complete"}', "is damaged (KeyError: 'config')"),
    ],
)
def test_unusable_record(sweep: Path, text: str, reason: str) -> None:
    path = sweep / "0-0" / "record.json"
    path.write_text(text)
    assert the(problems(sweep), reason).startswith(str(path))
    assert len(load([sweep]).runs) == RUNS - 1


def test_score_that_is_no_number(sweep: Path) -> None:
    path = edit(sweep / "0-0", lambda record: record["metric"].update(value=float("nan")))
    the(problems(sweep), str(path), "is damaged", "accuracy is nan")


@pytest.mark.parametrize(
    "change",
    [
        {"versions": None},
        {"git": "abc"},
        {"layer_forwards": float("inf")},
        {"js": {"delta": 0.1}},
        {"demonstrations": {}},
        {"other_metrics": [{}]},
        {"skipped": None},
    ],
)
def test_damaged_part_of_a_record(sweep: Path, change: dict[str, object]) -> None:
    path = edit(sweep / "0-0", lambda record: record.update(change))
    the(problems(sweep), str(path), "is damaged")


def test_damaged_and_missing_layers(sweep: Path) -> None:
    (sweep / "0-0" / "layers.csv").write_text("chunk,layer\n0,0\n")
    (sweep / "0-1" / "layers.csv").unlink()
    loaded = load([sweep])
    for name in ("0-0", "0-1"):
        the(loaded.problems, f"The layers of {sweep / name / 'record.json'} cannot be read")
    assert len(loaded.runs) == RUNS


def test_duplicate_runs(sweep: Path, tmp_path: Path) -> None:
    again = shutil.copytree(sweep / "1-0", tmp_path / "again")
    the(problems(sweep, again), str(again), "holds the same run", "with the same score")
    other = shutil.copytree(sweep / "1-1", tmp_path / "other")
    the(problems(sweep, again, other), str(again), "with the same score, and so on for 1 more; left out.")
    edit(again, lambda record: record["metric"].update(value=1.0))
    the(problems(sweep, again), str(again), "WITH ANOTHER SCORE")
    assert len(load([sweep, again]).runs) == RUNS


def test_a_folder_given_twice_is_no_duplicate(finished_sweep: Path) -> None:
    loaded = load([finished_sweep, finished_sweep / "0-0", finished_sweep])
    assert (len(loaded.runs), loaded.problems) == (RUNS, [])


def test_missing_seeds(sweep: Path) -> None:
    shutil.rmtree(sweep / "1-1")
    shutil.rmtree(sweep / "4-1")
    sentence = the(problems(sweep), "Seed 1 is missing")
    assert "none (digits, 10 shots)" in sentence
    assert "emloc (digits, 20 shots, delta 0.005)" in sentence


def test_several_runs_of_one_seed(sweep: Path) -> None:
    edit(sweep / "1-1", lambda record: record["config"].update(seed=0))
    the(problems(sweep), "none (digits, 10 shots) has several different runs of one seed", "1-0", "1-1")


def test_mixed_datasets(sweep: Path) -> None:
    edit(sweep / "1-0", lambda record: record["config"]["dataset"].update(_target_="experiments.datasets.x.X"))
    the(problems(sweep), "2 datasets", "digits; x")


def test_unequal_demonstrations(sweep: Path) -> None:
    assert not [sentence for sentence in problems(sweep) if "different demonstrations" in sentence]
    edit(sweep / "1-0", lambda record: record.update(demonstrations_id="other"))
    the(problems(sweep), "different demonstrations of digits", "10 shots, seed 0", "none")


def test_unequal_rules(sweep: Path) -> None:
    edit(sweep / "1-0", lambda record: record["demonstrations"].update(rule="first"))
    sentence = the(problems(sweep), "demonstrations of digits (random) were not all chosen by one rule")
    assert "balanced: emloc" in sentence
    assert "first: none (digits, 10 shots))" in sentence


def test_unequal_prompts(sweep: Path) -> None:
    print_of = {"question": {"characters": 5, "sha256": "f" * 64}}
    edit(sweep / "1-0", lambda record: record.update(prompt_fingerprint=print_of))
    the(problems(sweep), "queries of digits (random) were not all asked with the same text", "question ffffffff: none")
    edit(sweep / "1-0", lambda record: record.update(prompt_fingerprint={}))
    the(problems(sweep), "not all asked with the same text", "none: none (digits, 10 shots)")


def test_skipped_queries(sweep: Path) -> None:
    skipped = {"digits/0001": "The image is broken.", "digits/0002": "It is gone."}
    note = "2 of 22 queries could not be asked and count nowhere (see skipped)"
    edit(sweep / "1-0", lambda record: record.update(skipped=skipped, notes=[note]))
    found = problems(sweep)
    the(
        found,
        "Queries were skipped",
        "none (digits, 10 shots), seed 0: 2 of 22",
        "the first reason: The image is broken.",
    )
    assert not [sentence for sentence in found if "see skipped" in sentence]


def test_other_metrics_are_rows_of_their_own(sweep: Path) -> None:
    other = {"name": "CIDEr", "value": 1.5, "unit": ""}
    edit(sweep / "1-0", lambda record: record.update(other_metrics=[{**record["metric"], **other}]))
    loaded = load([sweep])
    (row,) = loaded.others.to_dict("records")
    assert (row["metric"], row["value"], row["unit"], row["label"]) == ("CIDEr", 1.5, "", "none")
    assert set(loaded.runs["metric"]) == {"accuracy"}
    assert load([sweep / "0-0"]).others.empty


def test_what_runs_say_of_themselves(sweep: Path) -> None:
    the(problems(sweep), "nothing was pruned", "emloc (digits, 10 shots, delta 0)")


def test_scores_without_spread(sweep: Path) -> None:
    edit(sweep / "1-0", lambda record: record["metric"].update(value=1.0, stderr=0.0))
    assert not [one for one in problems(sweep) if "All queries scored the same" in one]  # Wilson's interval has a width
    edit(sweep / "1-0", lambda record: record["metric"].update(unit=""))
    the(problems(sweep), "All queries scored the same", "does not mean that the score is certain")


def test_mixed_versions(sweep: Path) -> None:
    edit(sweep / "1-0", lambda record: record["versions"].update(torch="1.0"))
    edit(sweep / "1-1", lambda record: record.update(git=None))
    found = problems(sweep)
    the(found, "not all made with the same torch", "1.0 (1 run)")
    the(found, "not all made with the same commit", "not a git checkout (1 run)")
    assert versions(load([sweep]))["device"] == {"cpu": RUNS}
