"""Options under earlier names: the command line still takes them, and says what to write now."""

from pathlib import Path

import pytest

from experiments.setup.spellings import brought_up_to_date
from tests.experiments.setup.conftest import Command, left


@pytest.mark.parametrize(
    ("before", "now"),
    [
        ("method.observe=probes", "method/importance=answers"),
        ("method.observe=window", "method/importance=window"),
        ("++method.observe=probes", "method/importance=answers"),
        ("method.observe=probes,window", "method/importance=answers,window"),
        ("method.observe=choice(window, probes)", "method/importance=choice(window, answers)"),
        ("method.delta=0.1", "method.allocation.delta=0.1"),
        ("method.delta=0,0.1", "method.allocation.delta=0,0.1"),
        ("method.ratios=[0.1,0.2],[0.5]", "method.allocation.ratios=[0.1,0.2],[0.5]"),
        ("method.order=top_down,bottom_up", "method.allocation.order=top_down,bottom_up"),
        ("++method.group=range(1,3)", "++method.allocation.group=range(1,3)"),
        ("+method.budget='match:a=b'", "+method.allocation.budget='match:a=b'"),
        ("method.beta=10", "method.allocation.beta=10"),
        ("method.window=8", "method.importance.window=8"),
        ("method.kernel=3", "method.importance.kernel=3"),
    ],
)
def test_an_earlier_spelling(before: str, now: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert brought_up_to_date(["-m", "method=snapkv", before]) == ["-m", "method=snapkv", now]
    assert capsys.readouterr().err == f"{before} is an earlier spelling; write {now}.\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["method=emloc_video", "method.window=8"],
        ["method.window=8", "-m", "method=emloc_video,none"],
        ["method.chunk_size=3", "delta=0.1", "method.allocation.delta=0.1", "method/importance=window"],
        ["--config-dir", "method.delta", "dataset.question='method.delta=1'"],
    ],
)
def test_what_stays_as_it_is(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert brought_up_to_date(arguments) == arguments
    assert capsys.readouterr().err == ""


def test_the_command_takes_them(command: Command, tmp_path: Path) -> None:
    done = command("method.group=1.5")
    assert done.err == (
        "method.group=1.5 is an earlier spelling; write method.allocation.group=1.5.\n"
        "Expected method.allocation.group to be a whole number from 1 up, but got 1.5.\n"
    )
    assert not left(tmp_path)


def test_they_compose_as_todays_names_do(command: Command) -> None:
    before, now = (
        command("--cfg", "job", "--package", "method", "method=snapkv", *options)
        for options in (
            ["method.observe=probes", "method.budget=0.3"],
            ["method/importance=answers", "method.allocation.budget=0.3"],
        )
    )
    assert before.out == now.out
    assert "emloc.importance.answers.Answers" in before.out


def test_a_file_of_the_users_own_is_told_what_to_write(command: Command, tmp_path: Path) -> None:
    (tmp_path / "mine" / "experiment").mkdir(parents=True)
    (tmp_path / "mine" / "experiment" / "old.yaml").write_text("# @package _global_\nmethod:\n  order: bottom_up\n")
    done = command("--config-dir", str(tmp_path / "mine"), "+experiment=old")
    assert done.err == (
        "Expected an option of method to be one of allocation, chunk_size, importance, probe, probes, refit; "
        "got 'order'. It has moved; write method.allocation.order.\n"
    )


def test_a_sweep_of_the_users_own_is_told_what_to_write(command: Command, tmp_path: Path) -> None:
    (tmp_path / "mine" / "experiment").mkdir(parents=True)
    sweep = "# @package _global_\nhydra:\n  sweeper:\n    params:\n      method.order: top_down,bottom_up\n"
    (tmp_path / "mine" / "experiment" / "old.yaml").write_text(sweep)
    done = command("-m", "--config-dir", str(tmp_path / "mine"), "+experiment=old")
    assert done.err.endswith("got 'order'. It has moved; write method.allocation.order.\n")
