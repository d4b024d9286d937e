"""The sweeps of conf/experiment: each says how to run it, composes, and runs; what a sweep tells at its end."""

import re
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
from hydra.core.global_hydra import GlobalHydra

import run
from analysis.runs.load import load
from experiments.setup.naming import run_name
from experiments.setup.problems import exit_code
from tests.support.checkpoints import make_checkpoint
from tests.support.runs import ROOT, composed, image_folder

FILES = sorted((ROOT / "conf" / "experiment").glob("*.yaml"))
NAMES = [path.stem for path in FILES]
JOBS = {
    "fig1_shots": 4, "fig3_delta": 7, "fig4_layers": 3, "fig5_tokens": 2, "table_main": 5, "ablation_ratios": 5,
    "ablation_chunks": 2, "ablation_order": 6, "table_benchmarks": 3,
    "table_real": 5, "plus_real": 3, "plus_deltas": 6, "plus_budgets": 12, "plus_rivals": 12, "plus_crossing": 20,
    "plus_probes": 2, "plus_chunks": 2,
}  # fmt: skip
SMALLER = {
    "fig1_shots": ["shots=3,5"],
    "fig4_layers": ["shots=4", "delta=0"],  # random weights keep less than an observation window otherwise
    "table_main": ["shots=4", "delta=0"],
    "table_real": ["shots=4", "delta=0"],
    "ablation_chunks": ["shots=4", "chunk_size=2,3"],
    "plus_budgets": ["shots=12"],
    "plus_rivals": ["shots=4", "delta=0"],
    "plus_chunks": ["shots=4", "chunk_size=2,3"],
}
CHUNKS = {"ablation_chunks": [], "plus_chunks": []}  # sweeps over them itself
DONE = re.compile(r"(\d+) done, (\d+) failed, (\d+) skipped \(finished before\): (\S+)")
Sweep = Callable[..., int]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Random weights and noise, in place of the embedded model and digits."""
    model = make_checkpoint(tmp_path_factory.mktemp("model"), layers=2)
    data = image_folder(tmp_path_factory.mktemp("data"), train=6, val=2)
    return [f"model.path={model}", "dataset=image_folder", f"dataset.root={data}", "seed=0", "device=cpu"]


@pytest.fixture
def sweep(small: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Sweep:
    """`python run.py -m` in this process and in an empty folder; returns the exit code."""
    monkeypatch.chdir(tmp_path)

    def start(*arguments: str) -> int:
        monkeypatch.setattr("sys.argv", ["run.py", "-m", "-cp", str(ROOT / "conf"), *small, *arguments])
        monkeypatch.setenv("HYDRA_FULL_ERROR", "")
        try:
            return exit_code(run.main)
        finally:
            GlobalHydra.instance().clear()

    return start


def account(capsys: pytest.CaptureFixture[str]) -> tuple[int, int, int]:
    """Done, failed and skipped, by the last line that was printed."""
    found = DONE.fullmatch(capsys.readouterr().out.splitlines()[-1])
    assert found
    done, failed, skipped = map(int, found.groups()[:3])
    return done, failed, skipped


def plugin_of(launcher: str) -> bool:
    """Whether the plugin that a launcher needs is installed."""
    package = {"slurm": "submitit"}.get(launcher.split("_")[0], launcher.split("_")[0])
    return find_spec(f"hydra_plugins.hydra_{package}_launcher") is not None


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_header_gives_command_time_and_what_to_expect(path: Path) -> None:
    header = [line for line in path.read_text().splitlines() if line.startswith("#")]
    text = "\n".join(header)
    assert header[0] == "# @package _global_"
    assert re.search(rf"# Command: python run.py -m \+experiment={path.stem}( model=(qwen2_vl_7b|smollm2))?\n", text)
    assert re.search(r"# Time:    (about \d+ minutes?|not measured) .*\d+ runs", text)
    assert "# Expect:  " in text


def test_every_figure_and_table_has_its_file() -> None:
    assert sorted(JOBS) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_every_experiment_composes_for_the_papers_model(name: str) -> None:
    config = composed(f"+experiment={name}", "model=qwen2_vl_7b", "dataset=imagenet100")
    assert run_name(config).startswith(f"emloc-imagenet100-qwen2_vl_7b-{config.shots}-0.005-")
    assert "seed" in config.hydra.sweeper.params


@pytest.mark.parametrize("name", NAMES)
def test_every_experiment_runs(name: str, sweep: Sweep, capsys: pytest.CaptureFixture[str]) -> None:
    smaller = [f"+experiment={name}", *CHUNKS.get(name, ["chunk_size=2"]), *SMALLER.get(name, ["shots=4"])]
    assert sweep(*smaller) == 0
    assert account(capsys) == (JOBS[name], 0, 0)
    (folder,) = Path("multirun").iterdir()
    assert f"experiment={name}" in folder.name
    loaded = load([folder])
    assert len(loaded.runs) == JOBS[name]
    assert not loaded.problems
    assert sweep(*smaller) == 0
    assert account(capsys) == (0, 0, JOBS[name])


def test_lengths_are_matched_within_the_sweep(sweep: Sweep) -> None:
    assert sweep("+experiment=fig4_layers", "shots=12", "delta=0.00001", "seed=0,1", "chunk_size=4") == 0
    runs = load(["multirun"]).runs
    assert set(runs["label"]) == {"emloc", "snapkv", "pyramidkv"}, "the seeds of a matched method are one setting"
    for _, of_one_seed in runs.groupby("seed"):
        assert len(of_one_seed) == 3
        assert of_one_seed["tokens_kept"].max() - of_one_seed["tokens_kept"].min() <= 0.5
    assert runs["compression"].min() > 1.1


def test_a_run_to_be_matched_that_is_missing_is_named(
    sweep: Sweep, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert sweep("+experiment=fig4_layers", "shots=4", "method=snapkv") == 1
    assert "a finished run beside this one" in capsys.readouterr().err
    assert not list(tmp_path.rglob("record.json"))


def test_a_failed_job_is_told_and_tried_again(sweep: Sweep, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["shots=999,4,5", "chunk_size=2", "hydra.sweep.dir=multirun/mine"]
    assert sweep(*command) == 1
    assert account(capsys) == (2, 1, 0)
    next(Path("multirun").rglob("record.json")).unlink()
    assert sweep(*command) == 1
    assert account(capsys) == (1, 1, 1)
    assert sweep(*command, "force=true", "shots=4,5") == 0
    assert account(capsys) == (2, 0, 0)


def test_a_command_line_option_replaces_the_experiments(sweep: Sweep, capsys: pytest.CaptureFixture[str]) -> None:
    assert sweep("+experiment=table_main", "method=none", "shots=4") == 0
    assert account(capsys) == (1, 0, 0)


@pytest.mark.parametrize("launcher", ["joblib", "submitit_local", "submitit_slurm", "ray", "slurm_gpu", "ray_gpu"])
def test_a_missing_launcher_is_one_sentence_with_the_command(
    launcher: str, sweep: Sweep, capsys: pytest.CaptureFixture[str]
) -> None:
    if plugin_of(launcher):
        pytest.skip("the launcher is installed")
    assert sweep(f"hydra/launcher={launcher}") == 1
    error = capsys.readouterr().err
    assert re.fullmatch(
        r"Expected the launcher \w+ to be installed, but it is not; pip install hydra-\w+-launcher\n", error
    )
