"""From what a run measured to its record."""

import pytest

from emloc import Trace
from experiments.running.assembly import context_size

pytest_plugins = ["tests.support.trace_fixtures"]


def test_context_size_is_measured(trace: Trace) -> None:
    size = context_size(trace.memory)
    assert size.bytes_kept == sum(layer.keys.nbytes + layer.values.nbytes for layer in trace.memory.layers)
    if size.compression is not None:
        assert size.compression == size.tokens_full / size.tokens_kept_mean
        assert size.bytes_full / size.bytes_kept == pytest.approx(size.compression)
