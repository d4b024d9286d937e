"""The command in this process, for tests of what it refuses: a process of its own takes seconds to import torch."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
from hydra.core.global_hydra import GlobalHydra

import run
from tests.support.runs import ROOT


class Outcome(NamedTuple):
    """What a user sees of a command."""

    code: int
    out: str
    err: str


Command = Callable[..., Outcome]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    """`python run.py ARGUMENTS` in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def start(*arguments: str) -> Outcome:
        monkeypatch.setattr("sys.argv", ["run.py", "-cp", str(ROOT / "conf"), *arguments])
        monkeypatch.setenv("HYDRA_FULL_ERROR", "")
        capsys.readouterr()
        try:
            code, sentence = run.command(), ""
        except SystemExit as error:  # as the interpreter takes it: a text goes to stderr
            code, sentence = 1, f"{error.code}\n"
        finally:
            GlobalHydra.instance().clear()
        printed = capsys.readouterr()
        return Outcome(code, printed.out, printed.err + sentence)

    return start


def left(folder: Path, known: Sequence[str] = ()) -> list[str]:
    """Everything that a command left in a folder, but for the empty folder that runs go to."""
    found = (path.relative_to(folder).as_posix() for path in folder.rglob("*"))
    return sorted(name for name in found if name not in (*known, "outputs"))
