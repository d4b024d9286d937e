"""Traces of all methods, for the tests of what is written of them; a test file asks for it with `pytest_plugins`."""

import pytest

from emloc import Method, Trace, load_backbone
from emloc.backbones.base import Backbone
from tests.matrix import METHODS
from tests.support.checkpoints import make_checkpoint
from tests.support.lively import demonstrations


@pytest.fixture(scope="session")
def small_backbone(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return load_backbone(make_checkpoint(tmp_path_factory.mktemp("model"), layers=3), device="cpu")


@pytest.fixture(scope="session", params=METHODS, ids=str)
def trace(request: pytest.FixtureRequest, small_backbone: Backbone) -> Trace:
    """What each method of the matrix leaves of six demonstrations."""
    method: Method = request.param
    return method.trace(small_backbone, demonstrations(6))
