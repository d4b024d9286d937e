"""The doctor: what it says of the machine, how near its estimates come to measured peaks, and what it refuses."""

import json
import logging
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import torch

from emloc import UserError, load_backbone, smollm2
from emloc.loading import NotAtHandError, converted_bytes, outline
from experiments import doctor
from experiments.doctor import composed, forecast_of
from experiments.estimating import machine, warning
from experiments.estimating.sizes import ModelSize
from experiments.setup.problems import exit_code
from tests.emloc.test_smollm2 import CONVERTED, real
from tests.support.runs import ROOT, execute

pytest_plugins = ["tests.support.run_fixtures"]


def command(folder: Path, module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    python = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}); import runpy; "]
    python[-1] += f"runpy.run_module({module!r}, run_name='__main__')"
    return subprocess.run([*python, *arguments], cwd=folder, capture_output=True, text=True, timeout=120)


def diagnosis(folder: Path, *arguments: str) -> dict[str, dict[str, dict[str, int]]]:
    done = command(folder, "experiments.doctor", "--json", *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


def assert_near(folder: Path, *arguments: str) -> None:
    """The estimate is within 25 % of what a run of its own process measures."""
    done = command(folder, "run", *arguments, f"hydra.run.dir={folder / 'run'}")
    assert done.returncode == 0, done.stderr
    record = json.loads((folder / "run" / "record.json").read_text())
    estimate = diagnosis(folder, *arguments)["estimate"]
    assert estimate["memory"]["peak"] == pytest.approx(record["peak_memory_bytes"], rel=0.25)
    assert estimate["tokens"] == pytest.approx(record["context"]["tokens_full"], rel=0.05)
    for cost, name in (("layer_forwards", "deciding"), ("measuring_forwards", "measuring")):
        bounds = estimate["layer_forwards"][name]
        assert bounds["least"] <= record[cost] <= bounds["most"]


@pytest.mark.parametrize("method", ["emloc", "expected_attention"])
def test_the_estimate_is_near_the_measured_peak(method: str, tmp_path: Path) -> None:
    assert_near(tmp_path, f"method={method}", "device=cpu", "shots=40", "limit=40")


@real
def test_the_estimate_is_near_the_peak_of_a_real_model(tmp_path: Path) -> None:
    assert_near(tmp_path, "model=smollm2", "dataset=topics", "device=cpu", "shots=10", "limit=4", "method=none")


@real
def test_weights_of_another_number_type_are_counted_with_their_files(tmp_path: Path) -> None:
    assert converted_bytes("smollm2", torch.float32) == 0
    config, _ = composed(["model=smollm2", "dataset=topics", "device=cpu", "shots=2", "dtype=bfloat16"])
    found, _ = forecast_of(config, tmp_path)
    assert found is not None
    assert found.memory.loading == pytest.approx(2 * found.memory.weights, rel=0.01)


def test_lines_name_the_machine_and_the_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert called(monkeypatch, "device=cpu", "shots=40", "method=none") == 0
    out = capsys.readouterr().out
    assert f"torch {version('torch')}" in out
    assert "attention   fused CPU kernel (reproduces the plain formula here)" in out
    assert "estimate for none-digits-tiny-40-" in out
    assert "20 were counted, the others taken to be like them" in out
    assert "  layers run  16 to compress, 0 to measure" in out


@pytest.mark.parametrize(
    "options", [("method=none", "delta=0.1"), ("shots=-1",), ("shots=201",), ("model.path=./none",)], ids=str
)
def test_bad_options_are_refused_as_a_run_refuses_them(
    options: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UserError) as refused:
        execute(*options, f"hydra.run.dir={tmp_path / 'run'}")
    assert called(monkeypatch, *options) == 1
    assert capsys.readouterr().err == f"{refused.value}\n"


def test_names_that_are_not_there_are_refused_as_a_run_refuses_them(tmp_path: Path) -> None:
    for option in ("dataset=digts", "x"):
        ran, looked = command(tmp_path, "run", option), command(tmp_path, "experiments.doctor", option)
        assert (looked.returncode, looked.stdout, looked.stderr) == (ran.returncode, "", ran.stderr)
        assert looked.stderr.count("\n") == 1


def test_flags_of_a_run_are_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert called(monkeypatch, "-m", "shots=1,2") == 1
    told = "Expected options of one run, such as shots=50, or --json, but got -m; leave it out.\n"
    assert capsys.readouterr() == ("", told)


def test_a_checkpoint_that_is_not_here_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert called(monkeypatch, "model=qwen2_vl_7b", "device=cpu") == 0
    out = capsys.readouterr().out
    assert "attention   fused" in out
    assert out.splitlines()[-1] == (
        "  Memory and layer forwards cannot be told: Qwen/Qwen2-VL-7B-Instruct is not on this machine; the run itself "
        "gets it."
    )


def called(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """The command in this process: its exit code."""
    monkeypatch.setattr(sys, "argv", ["doctor", *arguments])
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")  # exit_code sets it: this has it restored
    return exit_code(doctor.main)


def test_an_outline_is_the_model_without_its_weights(checkpoint: Path) -> None:
    for path, dtype, element in ((checkpoint, "float32", 4), ("tiny", "bfloat16", 2)):  # tiny's matrices are tied
        found, loaded = (load(path, device="cpu", dtype=dtype) for load in (outline, load_backbone))
        assert found.device == torch.device("meta")
        assert ModelSize.of(found) == ModelSize.of(loaded)
        assert ModelSize.of(found).element == element


def test_nothing_is_converted_to_be_estimated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMLOC_CACHE", str(tmp_path))
    with pytest.raises(NotAtHandError, match="smollm2 is not on this machine; the run itself gets it"):
        outline("smollm2")
    assert not list(tmp_path.iterdir())
    if (CONVERTED / "config.json").is_file():
        monkeypatch.delenv("EMLOC_CACHE")
        assert outline("smollm2").n_layers == 30
        assert smollm2.converted() == CONVERTED


def test_a_run_that_does_not_fit_says_what_to_lower(
    options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(warning, "available_bytes", lambda device: 1000)
    with caplog.at_level(logging.INFO, "experiments"):
        execute(*options)
    assert (tmp_path / "run" / "record.json").is_file(), "it is not refused"
    (said,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert "0 MB are free on cpu: lower chunk_size, batch_size or shots" in said
    assert any("deciding" in record.getMessage() for record in caplog.records)


def test_a_run_that_fits_says_nothing(options: list[str], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "experiments"):
        execute(*options)
    assert not any("free on" in record.getMessage() for record in caplog.records)


def test_free_memory_is_the_least_that_the_machine_and_the_group_leave(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "meminfo").write_text("MemTotal: 999 kB\nMemAvailable:      500 kB\n")
    monkeypatch.setattr(machine, "_MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(machine, "_CGROUP", tmp_path)
    cpu = torch.device("cpu")
    assert machine.available_bytes(cpu) == 500 * 1024
    (tmp_path / "memory.max").write_text("300000\n")
    (tmp_path / "memory.current").write_text("100000\n")
    assert machine.available_bytes(cpu) == 200_000
    (tmp_path / "memory.max").write_text("max\n")
    assert machine.available_bytes(cpu) == 500 * 1024


def test_extras_are_those_of_the_package() -> None:
    found = machine.extras()
    assert {"wandb", "npu", "video", "metrics", "dev"} <= set(found)
    assert found["dev"] == [], "the tests run where it is installed"
    assert all(isinstance(name, str) for missing in found.values() for name in missing)


def test_what_is_not_estimated_is_said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert called(monkeypatch, "method=emloc_video", "shots=4", "device=cpu") == 0
    said = "each query about a video condenses a context of its own, which is not counted here"
    assert said in capsys.readouterr().out


def test_options_that_no_run_takes_are_errors_in_the_library_too(tmp_path: Path) -> None:
    config, _ = composed(["shots=500"])
    with pytest.raises(UserError, match="shots=500"):
        forecast_of(config, tmp_path)
