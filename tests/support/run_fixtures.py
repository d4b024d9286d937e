"""Fixtures of the tests that do runs; a test file asks for them with `pytest_plugins`."""

from pathlib import Path

import pytest

from experiments.datasets.base import Sample
from experiments.running.evaluation import Evaluation, Prediction
from tests.support.checkpoints import make_checkpoint
from tests.support.runs import image_folder


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("model"), layers=2)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return image_folder(tmp_path / "data")


@pytest.fixture
def options(checkpoint: Path, data: Path, tmp_path: Path) -> list[str]:
    """A run of 6 demonstrations and 12 queries in 4 batches."""
    return [
        f"model.path={checkpoint}", "dataset=image_folder", f"dataset.root={data}", "shots=6", "batch_size=3",
        "device=cpu", "chunk_size=4", f"hydra.run.dir={tmp_path / 'run'}",
    ]  # fmt: skip


@pytest.fixture
def answered(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The ids of all queries that the model is asked, in order."""
    ids: list[str] = []
    answer = Evaluation._answer

    def counting(self: Evaluation, batch: list[Sample]) -> list[Prediction]:
        predictions = answer(self, batch)
        ids.extend(prediction.id for prediction in predictions)
        return predictions

    monkeypatch.setattr(Evaluation, "_answer", counting)
    return ids
