"""What every test relies on: no network, one torch thread, fixed seeds."""

import os

# Before transformers or datasets are imported: both read these once.
os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", HF_HUB_DISABLE_PROGRESS_BARS="1", WANDB_MODE="offline")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import numpy as np
import pytest
import torch

# The tests' tensors are small: a second thread gains little, and on a busy machine its barriers cost 100 times more.
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _seeds() -> None:
    """Every test starts from the same random state, alone or among others."""
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002 (scikit-learn reads the global generator)
