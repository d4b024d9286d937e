"""A small sweep of real runs, for the tests of the analysis; a test file asks for it with `pytest_plugins`."""

import shutil
from pathlib import Path

import pytest

from experiments.datasets.digits import CLASSES
from tests.support.checkpoints import make_checkpoint
from tests.support.runs import execute
from tests.support.sweep import MATCHED, SEEDS, VARIED


@pytest.fixture(scope="session")
def finished_sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All of `VARIED` with every seed, and `MATCHED`; not to be written to."""
    root = tmp_path_factory.mktemp("sweep")
    model = make_checkpoint(tmp_path_factory.mktemp("checkpoints") / "random", label_words=CLASSES)
    common = [f"model.path={model}", "dataset=digits", "limit=20", "device=cpu", "shots=10"]
    chunked = [*common, "chunk_size=4"]
    for seed in SEEDS:
        for number, options in enumerate(VARIED):
            chosen = common if options == ["method=zero_shot"] else chunked  # zero_shot has no chunks
            execute(*chosen, *options, f"seed={seed}", f"hydra.run.dir={root / f'{number}-{seed}'}")
        match = f"budget=match:{root / f'0-{seed}' / 'record.json'}"
        for method in MATCHED:
            execute(*chunked, f"method={method}", match, f"seed={seed}", f"hydra.run.dir={root / f'{method}-{seed}'}")
    return root


@pytest.fixture
def sweep(finished_sweep: Path, tmp_path: Path) -> Path:
    """A copy of the sweep that a test may spoil."""
    return shutil.copytree(finished_sweep, tmp_path / "sweep")
