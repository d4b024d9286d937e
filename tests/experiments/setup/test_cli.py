"""The command as a user runs it: what it prints where, its exit code, and what a killed process leaves."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from experiments.records.schema import Record
from tests.support.checkpoints import make_checkpoint
from tests.support.runs import ROOT, comparable, execute

RUN = [sys.executable, str(ROOT / "run.py")]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("model"), layers=2)


def command(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*RUN, *arguments], cwd=folder, capture_output=True, text=True, timeout=120)


def test_unknown_name_is_one_sentence(tmp_path: Path) -> None:
    done = command(tmp_path, "dataset=digts")
    assert done.returncode == 1
    assert done.stdout == ""
    known = ", ".join(sorted(path.stem for path in (ROOT / "conf" / "dataset").glob("*.yaml")))
    assert done.stderr == f"Expected dataset to be one of {known}; got 'digts'. Did you mean 'digits'?\n"
    assert not list(tmp_path.iterdir())


def test_bad_value_is_one_sentence_and_leaves_no_run_folder(checkpoint: Path, tmp_path: Path) -> None:
    done = command(tmp_path, f"model.path={checkpoint}", "shots=201")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    assert "shots=201" in done.stderr
    assert not list((tmp_path / "outputs").iterdir())


def test_sweep_goes_on_after_a_failure(checkpoint: Path, tmp_path: Path) -> None:
    done = command(tmp_path, "-m", f"model.path={checkpoint}", "limit=4", "shots=201,2")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "shots=201" in done.stderr
    (record,) = tmp_path.glob("multirun/*/*/record.json")
    assert str(record) in done.stdout.splitlines()
    assert done.stdout.splitlines()[-1].startswith("1 done, 1 failed, 0 skipped (finished before): multirun")
    assert "2 demonstrations" in (record.parent / "run.log").read_text()
    assert {path.name for path in record.parents[1].iterdir()} == {"multirun.yaml", record.parent.name}


def test_killed_run_goes_on(checkpoint: Path, tmp_path: Path) -> None:
    options = (f"model.path={checkpoint}", "device=cpu", "shots=20", "limit=300", "dataset.max_new_tokens=1")
    killed = tmp_path / "killed"
    process = subprocess.Popen(
        [*RUN, *options, "batch_size=1", f"hydra.run.dir={killed}"],
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    _wait_for_lines(killed / "predictions.jsonl", 5, process)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (killed / "record.json").exists()
    before = (killed / "predictions.jsonl").read_bytes()
    resumed = execute(*options, f"hydra.run.dir={killed}")
    after = (killed / "predictions.jsonl").read_bytes()
    assert after.startswith(before[: before.rindex(b"\n") + 1]), "what was answered is not answered again"
    assert after.count(b"\n") == resumed.metric.n == 300
    whole = execute(*options, f"hydra.run.dir={tmp_path / 'whole'}")
    assert comparable(resumed) == comparable(whole)
    assert Record.read(killed / "record.json") == resumed


def _wait_for_lines(path: Path, count: int, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline and process.poll() is None:
        if path.exists() and path.read_bytes().count(b"\n") >= count:
            return
        time.sleep(0.02)
    raise AssertionError(f"no {count} answers within the time; exit code {process.poll()}")
