"""What users, disks and devices do wrong becomes one sentence; what may be a bug of ours keeps its traceback."""

import os
from collections.abc import Callable
from typing import Any

import pytest
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException

from emloc import UserError
from experiments.setup.problems import attempt, exit_code, explain
from tests.support.runs import composed


def failing(error: BaseException) -> Callable[[], Any]:
    def main() -> None:
        raise error

    return main


@pytest.fixture(autouse=True)
def _fresh_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {})


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("dataset=digts", "Expected dataset to be one of banking77, "),
        ("dataset=digts", "; got 'digts'. Did you mean 'digits'?"),
        ("method=snapvk", "Did you mean 'snapkv'?"),
        ("model=tinny", "Did you mean 'tiny'?"),
        ("shotz=3", "got 'shotz'. Did you mean 'shots'?"),
        ("datast=digits", "Did you mean 'dataset'?"),
        (
            "method.ratio=[0.1]",
            "Expected an option of method to be one of allocation, chunk_size, importance, probe, probes, refit; "
            "got 'ratio'.",
        ),
        (
            "method.order=bottom_up",
            "one of allocation, chunk_size, importance, probe, probes, refit; got 'order'. It has moved; "
            "write method.allocation.order.",
        ),
        ("method.importance.window=8", "Expected no option of method.importance; got 'window'."),
        ("hydra.run.dir=null", "Error merging override hydra.run.dir=null: field 'hydra.run.dir' is not Optional."),
        ("shots=[1", "'shots=[1' cannot be read"),
    ],
)
def test_wrong_names_are_explained(override: str, sentence: str) -> None:
    with pytest.raises(HydraException) as caught:
        composed(override)
    assert sentence in str(explain(caught.value))
    assert "\n" not in str(explain(caught.value))


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (
            RuntimeError("Failed to load the backend extension: torch_npu. You can disable extension auto-loading ..."),
            "CANN toolkit for torch-npu, but torch cannot load it; source the toolkit's set_env.sh",
        ),
        (RuntimeError("CUDA out of memory. Tried to allocate 20.00 GiB"), "smaller batch_size or chunk_size"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried ..."), "batch_size"),
        (PermissionError(13, "Permission denied", "/data/x"), "/data/x: Permission denied; choose one with hydra.run"),
        (OSError(28, "No space left on device", "/data/x"), "No space left"),
        (HydraException("First line\nsecond line\nthird"), "First line second line\n"),
        (UserError("Expected this."), "Expected this."),
    ],
)
def test_what_is_no_bug_is_one_sentence(error: Exception, sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(failing(error)) == 1
    printed = capsys.readouterr()
    assert sentence in printed.err
    assert (printed.err.count("\n"), printed.out) == (1, "")


@pytest.mark.parametrize("error", [RuntimeError("shape mismatch"), KeyError("x"), FileNotFoundError(2, "no", "x")])
def test_what_may_be_a_bug_keeps_its_traceback(error: Exception) -> None:
    with pytest.raises(type(error)):
        exit_code(failing(error))


def test_full_error_shows_every_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {"HYDRA_FULL_ERROR": "1"})
    with pytest.raises(UserError):
        exit_code(failing(UserError("Expected this.")))


def test_interruption(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(failing(KeyboardInterrupt())) == 130
    assert "goes on" in capsys.readouterr().err
    assert exit_code(lambda: None) == 0


def test_single_job_ends_the_process_with_its_sentence() -> None:
    HydraConfig.instance().set_config(composed("hydra.mode=RUN"))
    with pytest.raises(SystemExit, match=r"^Expected this\.$"):
        attempt(failing(UserError("Expected this.")))
    with pytest.raises(KeyError):
        attempt(failing(KeyError("a bug")))


def test_job_of_a_sweep_reports_and_lets_the_others_run(caplog: pytest.LogCaptureFixture) -> None:
    config = composed("hydra.mode=MULTIRUN")
    config.hydra.runtime.output_dir = "/sweep/the-job"
    HydraConfig.instance().set_config(config)
    with pytest.raises(UserError):
        attempt(failing(UserError("Expected this.")))
    assert caplog.messages == ["the-job failed: Expected this."]
