"""Jensen-Shannon divergence against SciPy and at its extremes."""

import math

import pytest
import torch
from scipy.spatial.distance import jensenshannon

from emloc.divergence import LN2, js_divergence


def test_equals_scipy() -> None:
    p, q = torch.randn(9, 50) * 3, torch.randn(9, 50) * 3
    expected = (jensenshannon(p.double().softmax(-1), q.double().softmax(-1), axis=1) ** 2).mean()
    assert js_divergence(p, q).item() == pytest.approx(expected, abs=1e-6)


def test_is_zero_for_equal_and_ln2_for_disjoint_distributions() -> None:
    logits = torch.tensor([[300.0, 0.0, -300.0]])
    assert js_divergence(logits, logits).item() == 0.0
    assert js_divergence(logits, logits.flip(-1)).item() == pytest.approx(math.log(2), abs=1e-6)
    assert pytest.approx(math.log(2)) == LN2


def test_is_symmetric_and_float32_for_half_inputs() -> None:
    p, q = torch.randn(4, 30), torch.randn(4, 30)
    assert js_divergence(p, q).item() == pytest.approx(js_divergence(q, p).item(), abs=1e-7)
    assert js_divergence(p.bfloat16(), q.bfloat16()).dtype == torch.float32


def test_is_finite_where_probabilities_underflow() -> None:
    """The public reference gets NaN here: its bfloat16 probabilities underflow to zero before the logarithm."""
    spread = torch.tensor([[0.0, -2000.0, -90.0]])
    value = js_divergence(spread, spread + torch.tensor([[0.0, 500.0, 1.0]])).item()
    assert 0.0 <= value < 1e-6
