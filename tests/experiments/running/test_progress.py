"""Progress: a bar on a terminal, ten lines without one."""

import logging
import sys

import pytest

from experiments.running import progress as progress_module
from experiments.running.progress import progress


def test_progress_without_a_terminal_is_ten_lines(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False)
    monkeypatch.setattr(progress_module, "_PAUSE", 0.0)
    with caplog.at_level(logging.INFO), progress("queries", unit="queries") as report:
        for done in range(1, 1001):
            report(done, 1000)
    assert len(caplog.records) == 10
    assert caplog.records[-1].getMessage() == "queries: 1000 of 1000 queries"


def test_progress_on_a_terminal_is_a_bar(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with caplog.at_level(logging.INFO), progress("queries", unit="queries") as report:
        report(3, 4)
        report(4, 4)
    assert "4/4" in capsys.readouterr().err
    assert not caplog.records
