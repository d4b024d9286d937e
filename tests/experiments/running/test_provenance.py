"""Where a record says it comes from."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from experiments.running.provenance import git_state, peak_memory_bytes, versions
from tests.support.runs import ROOT


def test_provenance(monkeypatch: pytest.MonkeyPatch) -> None:
    assert {"python", "torch", "transformers"} <= set(versions())
    assert peak_memory_bytes(torch.device("cpu")) > 50e6
    monkeypatch.setenv("PATH", "")
    assert git_state() is None


def test_git_state_outside_a_checkout(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("experiments.running.provenance.__file__", str(tmp_path / "x.py"))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git_state() is None


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the system only tells the largest of both")
def test_the_peak_is_of_this_program_not_of_the_one_that_started_it() -> None:
    child = (
        "import torch; from experiments.running.provenance import peak_memory_bytes; "
        "print(peak_memory_bytes(torch.device('cpu')))"
    )
    parent = f"import subprocess, sys; held = b'x' * (1 << 30); subprocess.run([sys.executable, '-c', {child!r}])"
    found = subprocess.run([sys.executable, "-c", parent], cwd=ROOT, capture_output=True, text=True, check=True)
    assert 100e6 < int(found.stdout) < 900e6
