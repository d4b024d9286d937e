"""What every test relies on: no network, no cache of the user's, one torch thread, fixed seeds; and golden files."""

import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

# Before transformers or datasets are imported: both read these once.
os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", HF_HUB_DISABLE_PROGRESS_BARS="1", WANDB_MODE="offline")
os.environ["HF_HOME"] = tempfile.mkdtemp(prefix="emloc-tests-")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # of the processes that tests start, for the reason below

import numpy as np
import pytest
import torch

_CACHE = os.environ["HF_HOME"]  # of datasets, which are copied there when they are read

# The tests' tensors are small: a second thread gains little, and on a busy machine its barriers cost 100 times more.
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _seeds() -> None:
    """Every test starts from the same random state, alone or among others."""
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002 (scikit-learn reads the global generator)


@pytest.fixture(autouse=True)
def _logging() -> Iterator[None]:
    """Handlers that a run sets up in this process go with it: later messages would go to its closed streams."""
    root = logging.getLogger()
    handlers, level = [*root.handlers], root.level
    yield
    root.handlers[:], root.level = handlers, level


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write tests/golden/ anew instead of comparing")


def pytest_unconfigure() -> None:
    shutil.rmtree(_CACHE, ignore_errors=True)


@pytest.fixture
def golden(pytestconfig: pytest.Config) -> Callable[[str, str], None]:
    """Asserts that a text is, to the character, what the file of this name in tests/golden/ holds."""
    folder = Path(__file__).parent / "golden"

    def check(name: str, text: str) -> None:
        file = folder / name
        if pytestconfig.getoption("--update-golden"):
            file.parent.mkdir(exist_ok=True)
            file.write_text(text, encoding="utf-8", newline="\n")
        assert text == file.read_bytes().decode(), f"{name} differs; if that is meant, run pytest --update-golden"

    return check
