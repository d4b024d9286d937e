"""Where a record says it comes from."""

from pathlib import Path

import pytest
import torch

from experiments.running.provenance import git_state, peak_memory_bytes, versions


def test_provenance(monkeypatch: pytest.MonkeyPatch) -> None:
    assert {"python", "torch", "transformers"} <= set(versions())
    assert peak_memory_bytes(torch.device("cpu")) > 50e6
    monkeypatch.setenv("PATH", "")
    assert git_state() is None


def test_git_state_outside_a_checkout(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("experiments.running.provenance.__file__", str(tmp_path / "x.py"))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git_state() is None
