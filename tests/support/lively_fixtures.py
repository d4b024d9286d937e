"""A lively backbone and its full context, for tests of methods; a test file asks for them with `pytest_plugins`."""

import pytest

from emloc import Memory, NoPruning
from emloc.backbones.base import Backbone
from tests.support.lively import SHOTS, demonstrations, lively_backbone


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return lively_backbone(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="module")
def full(backbone: Backbone) -> Memory:
    return NoPruning(chunk_size=4).compress(backbone, demonstrations(SHOTS))
