"""The picture of docs/METHOD.md shows what the method decides."""

from pathlib import Path

import pytest

from emloc import EMLoCPlus, load_backbone
from experiments.datasets.topics import Topics
from experiments.pictures.one_chunk import Filled, draw, main
from tests.emloc.test_smollm2 import real


@real
def test_the_picture_shows_the_lengths_that_a_run_gives(tmp_path: Path) -> None:
    backbone, method, dataset = load_backbone("smollm2", device="cpu"), EMLoCPlus(probe="heldout", refit=None), Topics()
    filled = Filled.of(backbone, dataset, method)
    memory = method.trace(backbone, dataset.draw(40, 0)).memory
    first = [[int((index < len(filled.words)).sum()) for *_, index in layer.heads] for layer in memory.layers]
    assert filled.lengths.view(filled.layers, -1).tolist() == first
    assert [axes.get_title(loc="left")[0] for axes in draw(filled).axes[:3]] == ["a", "b", "c"]


def test_a_task_that_is_not_there_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--dataset", "nothing"]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1
