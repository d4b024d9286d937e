"""Runs of earlier versions under the names of this one: the runner finds them, and nothing is lost on the way."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from experiments.records import rekey as command
from experiments.records.bundle import BundledRun, read_bundle
from experiments.records.names import USUAL, component
from experiments.records.rekey import main
from experiments.records.schema import finished_record
from experiments.setup.naming import identity, run_name
from tests.support.runs import ROOT, composed

OLD = ROOT / "tests" / "data" / "records" / "schema-2.jsonl"  # real runs, without what nobody needs here
EMLOC = "emloc-digits-tiny-200-0.005-e13e3fa7"
BUNDLED = ROOT / "analysis" / "notebooks" / "records"
MATCHED = "budget=match:${run_beside:emloc}"
COMMANDS = {
    EMLOC: ["method=emloc"],
    "none-digits-tiny-200-na-05b72b55": ["method=none"],
    "zero_shot-digits-tiny-200-na-70151c51": ["method=zero_shot"],
    "snapkv-digits-tiny-200-na-0becf7a1": ["method=snapkv", MATCHED],
    "snapkv-digits-tiny-200-na-fce82466": ["method=snapkv", MATCHED, "method/importance=answers"],
    "pyramidkv-digits-tiny-200-na-779f1fac": ["method=pyramidkv", MATCHED],
    "pyramidkv-digits-tiny-200-na-b08a3272": ["method=pyramidkv", MATCHED, "method/importance=answers"],
}


def runs_of(path: Path) -> Iterator[BundledRun]:
    for _, run in read_bundle(path):
        assert isinstance(run, BundledRun)
        yield run


def present_name(run_id: str) -> str:
    """What the present code calls the run that was called `run_id`."""
    return run_name(composed("dataset=digits", "shots=200", *COMMANDS[run_id]))


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return shutil.copy(OLD, tmp_path / "runs.jsonl")


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """The same runs in folders, as a runner of their time left them."""
    for run in runs_of(OLD):
        folder = tmp_path / "sweep" / run.folder
        (folder / ".hydra").mkdir(parents=True)
        write(folder / "record.json", run.record)
        claim = {"run_id": run.folder, "identity": old_identity(run.record["config"]), "inputs": {"model": "m"}}
        write(folder / ".hydra" / "run.json", claim)
    return tmp_path / "sweep"


def old_identity(config: dict[str, Any]) -> dict[str, Any]:
    """As schema 2 stored it, nulls and neutral values included."""
    names = ("dataset", "dtype", "heldout_js", "limit", "method", "model", "seed", "shots")
    return {name: config[name] for name in names}


def write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n")


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())


def files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_runs_have_the_names_that_this_version_gives_them(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(bundle)]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(COMMANDS)
    for before, after in zip(runs_of(OLD), runs_of(bundle), strict=True):
        assert after.folder == after.record["run_id"] == present_name(before.folder)
        assert (after.record["schema"], after.layers) == (3, before.layers)
        assert after.record["metric"] == before.record["metric"]


def test_runner_finds_renamed_folders(sweep: Path) -> None:
    assert main([str(sweep)]) == 0
    assert len(list(sweep.iterdir())) == len(COMMANDS)
    for run_id, overrides in COMMANDS.items():
        config = composed("dataset=digits", "shots=200", *overrides)
        folder = sweep / run_name(config)
        assert finished_record(folder, run_name(config)) is not None, run_id
        claim = read(folder / ".hydra" / "run.json")
        assert claim == {"run_id": run_name(config), "identity": identity(config), "inputs": {"model": "m"}}


def test_bundled_records_have_present_names() -> None:
    wanted = {("table_main", "glyphs100"), ("fig4_layers", "digits"), ("fig3_delta", "digits")}
    checked = 0
    for sweep, dataset in wanted:
        for run in runs_of(BUNDLED / f"{sweep}.jsonl"):
            config = run.record["config"]
            if config["seed"] == 1 and component(config["dataset"]) == dataset:
                assert run_name(composed(*overrides_of(config))) == run.folder == run.record["run_id"]
                checked += 1
    assert checked >= 15


def overrides_of(config: dict[str, Any]) -> list[str]:
    """The command line of a bundled run, as one would type it today."""
    method = config["method"]
    # Only what the method's name does not promise: an importance that is typed goes for the run beside it, too.
    usual = USUAL.get(component(method), {})
    chain = [f"method/{axis}={component(method[axis])}" for axis in usual if component(method[axis]) != usual[axis]]
    shared = [f"{name}={config[name]}" for name in ("shots", "seed", "delta", "heldout_js")]
    ratios = "ratios=" + json.dumps(config["ratios"]).replace(" ", "")
    matched = [MATCHED] if "budget" in method.get("allocation", {}) else []
    dataset = f"dataset={component(config['dataset'])}"
    return [f"method={component(method)}", *chain, dataset, *shared, ratios, *matched]


def test_repeating_it_changes_nothing(sweep: Path, bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([str(sweep), str(bundle)])
    before, text = files(sweep), bundle.read_text()
    capsys.readouterr()
    assert main([str(sweep), str(bundle), str(sweep)]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 2 * len(COMMANDS)
    assert all(line.endswith(": up to date") for line in printed)
    assert (files(sweep), bundle.read_text()) == (before, text)


def test_dry_run_changes_nothing(sweep: Path, bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = files(sweep)
    assert main([str(sweep), str(bundle), "--dry-run"]) == 0
    assert (files(sweep), bundle.read_text()) == (before, OLD.read_text())
    printed = capsys.readouterr().out
    assert f"{sweep / EMLOC}: {EMLOC} -> {present_name(EMLOC)}" in printed
    assert printed.endswith("Nothing was changed (--dry-run).\n")


@pytest.mark.parametrize("writes", range(0, 14, 3))
def test_an_interrupted_call_can_be_repeated(
    sweep: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writes: int
) -> None:
    whole = shutil.copytree(sweep, tmp_path / "whole")
    main([str(whole)])
    done: list[Path] = []
    really = command.write_atomically

    def interrupted(path: Path, text: str) -> None:
        if len(done) == writes:
            raise KeyboardInterrupt
        done.append(path)
        really(path, text)

    monkeypatch.setattr(command, "write_atomically", interrupted)
    with pytest.raises(KeyboardInterrupt):
        main([str(sweep)])
    monkeypatch.undo()
    assert main([str(sweep)]) == 0
    assert files(sweep) == files(whole)


def test_unfinished_runs_are_renamed_too(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for folder in sweep.iterdir():
        (folder / "record.json").unlink()
        (folder / "predictions.jsonl").write_text('{"id": 1}\n')
    assert main([str(sweep)]) == 0
    for run_id in COMMANDS:
        folder = sweep / present_name(run_id)
        assert read(folder / ".hydra" / "run.json")["run_id"] == folder.name
        assert (folder / "predictions.jsonl").exists()
    capsys.readouterr()
    assert main([str(sweep)]) == 0
    assert all(line.endswith(": up to date") for line in capsys.readouterr().out.splitlines())


def test_another_run_is_never_overwritten(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    taken = sweep / present_name(EMLOC)
    taken.mkdir()
    before = files(sweep / EMLOC)
    assert main([str(sweep)]) == 1
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "left as it is" in line]
    assert line == f"{sweep / EMLOC}: left as it is, because {taken} exists already"
    assert files(sweep / EMLOC) == before
    assert not list(taken.iterdir())


def test_a_bundle_keeps_two_runs_of_one_name(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([str(bundle)])
    bundle.write_text(bundle.read_text() + OLD.read_text().splitlines()[0] + "\n")
    capsys.readouterr()
    assert main([str(bundle)]) == 1
    assert f"{bundle}:{len(COMMANDS) + 1}: left as it is" in capsys.readouterr().out
    assert [run.folder for run in runs_of(bundle)].count(EMLOC) == 1


def test_a_match_that_is_elsewhere_is_named(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.move(sweep / EMLOC, sweep.parent / EMLOC)
    before = files(sweep / "snapkv-digits-tiny-200-na-0becf7a1")
    assert main([str(sweep)]) == 1
    lines = [line for line in capsys.readouterr().out.splitlines() if "left as it is" in line]
    assert len(lines) == 4
    assert all(f"its budget matches {EMLOC}, which is not in these folders" in line for line in lines)
    assert files(sweep / "snapkv-digits-tiny-200-na-0becf7a1") == before
    assert main([str(sweep), str(sweep.parent / EMLOC)]) == 0


def test_a_folder_named_by_the_user_keeps_its_name(sweep: Path) -> None:
    (sweep / EMLOC).rename(sweep / "mine")
    assert main([str(sweep)]) == 0
    assert read(sweep / "mine" / "record.json")["run_id"] == present_name(EMLOC)
    assert (sweep / present_name("snapkv-digits-tiny-200-na-0becf7a1")).is_dir()


def test_paths_in_budgets_follow_the_folder(sweep: Path) -> None:
    folder = sweep / "snapkv-digits-tiny-200-na-0becf7a1"
    record = read(folder / "record.json")
    record["config"]["method"]["budget"] = f"match:{sweep / EMLOC / 'record.json'}"
    write(folder / "record.json", record)
    assert main([str(sweep)]) == 0
    budgets = [
        str(record["config"]["method"]["allocation"]["budget"])
        for record in map(read, sweep.glob("snapkv-*/record.json"))
    ]
    (path,) = [Path(budget.removeprefix("match:")) for budget in budgets if "/" in budget]
    assert path == sweep / present_name(EMLOC) / "record.json"
    assert path.is_file()


def test_damaged_runs_are_named_and_left(sweep: Path, bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (sweep / EMLOC / "record.json").write_text("{")
    bundle.write_text("{\n" + bundle.read_text() + '{"folder": "a", "record": {"schema": 1}}\n')
    assert main([str(sweep), str(bundle)]) == 1
    left = [line for line in capsys.readouterr().out.splitlines() if "left as it is" in line]
    assert [line.split(": left")[0] for line in left] == [str(sweep / EMLOC), f"{bundle}:1", f"{bundle}:9"]
    lines = bundle.read_text().splitlines()
    assert (lines[0], len(lines)) == ("{", 9)
    assert (sweep / EMLOC / "record.json").read_text() == "{"


def test_nothing_to_rename(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path)]) == 1
    assert capsys.readouterr().err == f"Expected runs in {tmp_path}, but found none.\n"
    assert main([str(tmp_path / "nowhere")]) == 1
    assert "does not exist" in capsys.readouterr().err
