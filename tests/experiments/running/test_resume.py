"""Runs interrupted, finished, or begun by another process or configuration: nothing is lost, mixed or repeated."""

import threading
from pathlib import Path
from typing import TextIO

import pytest

from emloc import UserError
from experiments.records.schema import Record
from experiments.running import job
from experiments.running.evaluation import Prediction, PredictionFile
from experiments.running.folder import RunFolder
from tests.support.runs import comparable, execute, lines, write_image

pytest_plugins = ["tests.support.run_fixtures"]


def no_work(*_: object) -> Record:
    raise AssertionError("a finished run was computed again")


def test_finished_run_returns_at_once(
    options: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first = execute(*options)
    monkeypatch.setattr(job, "compute", no_work)
    assert execute(*options, "batch_size=1") == first  # how it is computed is not what it is
    assert "finished already" in capsys.readouterr().out


def test_force_computes_again(options: list[str], answered: list[str]) -> None:
    first = execute(*options)
    again = execute(*options, "force=true")
    assert len(answered) == 2 * 12
    assert comparable(again) == {**comparable(first), "config": {**first.config, "force": True}}


def test_interrupted_run_goes_on(options: list[str], data: Path, tmp_path: Path, answered: list[str]) -> None:
    whole = execute(*options, f"hydra.run.dir={tmp_path / 'whole'}")
    answered.clear()
    broken = data / "val" / "dog" / "1.png"
    good = broken.read_bytes()
    broken.write_bytes(good[:60])
    with pytest.raises(UserError, match=r"dog/1\.png"):
        execute(*options)
    assert len(answered) == 7  # all before the broken one
    assert not (tmp_path / "run" / "record.json").exists()
    broken.write_bytes(good)
    assert comparable(execute(*options)) == comparable(whole)
    assert sorted(answered) == sorted(str(line["id"]) for line in lines(tmp_path / "whole"))  # each exactly once


def test_a_bad_query_may_be_skipped(options: list[str], data: Path, tmp_path: Path, answered: list[str]) -> None:
    broken = data / "val" / "dog" / "1.png"
    broken.write_bytes(broken.read_bytes()[:60])
    record = execute(*options, "on_error=skip")
    assert record.metric.n == len(lines(tmp_path / "run")) == len(answered) == 11
    assert list(record.skipped) == ["val/dog/1.png"]
    assert "dog/1.png is not one" in record.skipped["val/dog/1.png"]
    assert any("1 of 12 queries could not be asked" in note for note in record.notes)


def test_a_run_without_any_good_query_says_so(options: list[str], data: Path, tmp_path: Path) -> None:
    for path in (data / "val").rglob("*.png"):
        path.write_bytes(b"no image")
    with pytest.raises(UserError, match=r"there is none; the first: .*cat/0\.png"):
        execute(*options, "on_error=skip")
    assert not (tmp_path / "run" / "record.json").exists()


@pytest.mark.parametrize("damage", [b'{"id": "val/dog/5.png", "tar', b"\0\0\0\0\n", b"[1]\n", b'{"id": "x"}\n'])
def test_torn_line_is_cut_off(options: list[str], tmp_path: Path, answered: list[str], damage: bytes) -> None:
    whole = execute(*options)
    path = tmp_path / "run" / "predictions.jsonl"
    (tmp_path / "run" / "record.json").unlink()
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:5]) + damage)
    answered.clear()
    assert comparable(execute(*options)) == comparable(whole)
    assert len(answered) == 12 - 5
    assert len(lines(tmp_path / "run")) == 12


def test_line_written_twice_counts_once(tmp_path: Path) -> None:
    first, second = (
        Prediction("a", "What?", "cat", text, text, score, {"accuracy": score}, None, 0.1)
        for text, score in (("cat", 1.0), ("dog", 0.0))
    )
    PredictionFile(tmp_path / "p.jsonl").append([first, second])
    assert PredictionFile(tmp_path / "p.jsonl")["a"] == first


def test_folder_of_another_configuration_is_refused(options: list[str], tmp_path: Path, answered: list[str]) -> None:
    first = execute(*options)
    before = (tmp_path / "run" / ".hydra" / "config.yaml").read_text()
    with pytest.raises(UserError, match=r"method\.allocation\.delta was 0\.005, now 0\.02.*force=true"):
        execute(*options, "delta=0.02")
    assert Record.read(tmp_path / "run" / "record.json") == first
    assert (tmp_path / "run" / ".hydra" / "config.yaml").read_text() == before
    assert len(answered) == 12
    assert execute(*options, "delta=0.02", "force=true").js.delta == 0.02
    assert len(answered) == 2 * 12


def test_unfinished_run_of_another_configuration_is_refused(options: list[str], tmp_path: Path) -> None:
    execute(*options)
    (tmp_path / "run" / "record.json").unlink()
    with pytest.raises(UserError, match="another configuration"):
        execute(*options, "seed=1")


def test_failure_with_force_keeps_the_results(options: list[str], tmp_path: Path) -> None:
    first = execute(*options)
    with pytest.raises(UserError, match="window"):
        execute(*options, "force=true", "method=snapkv", "budget=3")
    assert Record.read(tmp_path / "run" / "record.json") == first


def test_second_process_waits_for_the_first(tmp_path: Path) -> None:
    folder, entered = RunFolder(tmp_path, "run", {}), threading.Event()

    def second() -> None:
        with RunFolder(tmp_path, "run", {}).log():
            entered.set()

    thread = threading.Thread(target=second)
    with folder.log():
        thread.start()
        assert not entered.wait(0.3)
    thread.join(10)
    assert entered.is_set()


def test_run_that_another_process_finished_is_not_repeated(
    options: list[str], tmp_path: Path, answered: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = execute(*options)
    (tmp_path / "run" / "record.json").rename(tmp_path / "record.json")
    announce = RunFolder._wait_for_others

    def waiting(self: RunFolder, log: TextIO) -> None:
        announce(self, log)
        (tmp_path / "record.json").rename(self.record)

    monkeypatch.setattr(RunFolder, "_wait_for_others", waiting)
    assert execute(*options) == first  # its very seconds
    assert len(answered) == 12


def test_changed_demonstrations_are_not_mixed(options: list[str], data: Path, tmp_path: Path) -> None:
    execute(*options)
    (tmp_path / "run" / "record.json").unlink()
    write_image(data / "train" / "cat" / "0.png", seed=5)
    with pytest.raises(UserError, match="demonstrations changed since"):
        execute(*options)
    execute(*options, "force=true")
