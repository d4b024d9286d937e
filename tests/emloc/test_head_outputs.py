"""What outputs lose with tokens, against a softmax over what is left; refitted values against plain least squares."""

import numpy as np
import pytest
import torch
from torch import Tensor

from emloc.attention import KeyValues, attend_with_lse
from emloc.head_outputs import Seen, leave_one_out, refit_values, removal_curves

ROWS, HEADS, KV_HEADS, LENGTH, DIM, TOKENS = 3, 4, 2, 5, 8, 12
SCALING = DIM**-0.5
REAL = torch.arange(LENGTH) < torch.tensor([5, 2, 4])[:, None]  # rows of different lengths, padded


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed + sum(shape)))


Q, K, V = (
    drawn(ROWS, HEADS, LENGTH, DIM),
    drawn(ROWS, KV_HEADS, LENGTH, DIM),
    drawn(ROWS, KV_HEADS, LENGTH, DIM, seed=1),
)
KEYS, VALUES = 1.5 * drawn(KV_HEADS, TOKENS, DIM, seed=2), drawn(KV_HEADS, TOKENS, DIM, seed=3)


def run(keys: Tensor, values: Tensor, queries: Tensor = Q) -> tuple[Tensor, Tensor]:
    return attend_with_lse(queries, K, V, scaling=SCALING, attn="auto", shared=[KeyValues(keys, values)])


def seen(keys: Tensor = KEYS, values: Tensor = VALUES, queries: Tensor = Q) -> Seen:
    return Seen.of(queries, *run(keys, values, queries), kv_heads=KV_HEADS, scaling=SCALING)


def moved(kept: list[int], keys: Tensor = KEYS, values: Tensor = VALUES) -> Tensor:
    """(H_kv,) the squared change of outputs at real tokens if only the tokens `kept` stay, by running without them."""
    change = (run(keys[:, kept], values[:, kept])[0] - run(keys, values)[0]).square().sum(-1)
    return (change * REAL[:, None]).view(ROWS, KV_HEADS, -1, LENGTH).sum((0, 2, 3))


def test_leave_one_out_is_the_change_without_the_token() -> None:
    expected = torch.stack([moved([t for t in range(TOKENS) if t != gone]) for gone in range(TOKENS)], dim=1)
    torch.testing.assert_close(leave_one_out(seen().only(REAL), KEYS, VALUES), expected, rtol=2e-4, atol=1e-5)


def test_curves_are_the_change_without_the_least_important_tokens() -> None:
    order = torch.stack([torch.randperm(TOKENS, generator=torch.Generator().manual_seed(h)) for h in range(KV_HEADS)])
    counts = [1, 4, 9, TOKENS]
    curves = removal_curves(seen().only(REAL), KEYS, VALUES, order, counts)
    for head in range(KV_HEADS):
        for place, count in enumerate(counts):
            expected = moved(order[head, :count].sort().values.tolist())[head]
            torch.testing.assert_close(curves[head, place], expected, rtol=2e-4, atol=1e-5)


@pytest.mark.parametrize("strength", [10.0, 40.0, 160.0])
def test_a_token_that_takes_all_attention_matters_most(strength: float) -> None:
    """Attention that is 1 to the last bit of float32: what is left without the token cannot be read off it."""
    direction = torch.ones(DIM)
    keys = KEYS.clone()
    keys[:, 7] = strength * direction
    observed = seen(keys, queries=Q + direction).only(REAL)
    scores = leave_one_out(observed, keys, VALUES)
    assert torch.isfinite(scores).all()
    assert scores.argmax(-1).tolist() == [7, 7]
    order = torch.tensor([[7, *(t for t in range(TOKENS) if t != 7)]] * KV_HEADS)
    with_it = removal_curves(observed, keys, VALUES, order, [1])
    without = removal_curves(observed, keys, VALUES, order.flip(-1), [TOKENS - 1])
    assert (without > with_it).all()


def test_long_contexts_are_seen_block_by_block(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = leave_one_out(seen(), KEYS, VALUES)
    monkeypatch.setattr("emloc.head_outputs._BLOCK", 4)
    torch.testing.assert_close(leave_one_out(seen(), KEYS, VALUES), whole, rtol=1e-4, atol=1e-4)


def test_refitted_values_are_ridge_least_squares_and_give_the_outputs_they_say() -> None:
    kept, ridge = [0, 3, 5, 8], 0.01
    pruned, teacher = seen(KEYS[:, kept], VALUES[:, kept]), seen().only(REAL)
    heads = [(KEYS[head, kept], VALUES[head, kept]) for head in range(KV_HEADS)]
    fitted = REAL & torch.tensor([True, False, True])[:, None]
    fit = refit_values(pruned, heads, teacher, real=REAL, fitted_on=fitted, ridge=ridge)
    values = fit.values.view(KV_HEADS, len(kept), DIM)
    torch.testing.assert_close(fit.outputs, run(KEYS[:, kept], values)[0], rtol=1e-4, atol=1e-5)
    for head in range(KV_HEADS):
        attention = pruned.attention(head, KEYS[head, kept])[pruned.marked(fitted)].double().numpy()
        missing = (teacher.outputs[head] - pruned.only(REAL).outputs[head])[pruned.marked(fitted)[pruned.marked(REAL)]]
        weight = np.sqrt(ridge * (attention**2).sum(0).mean())
        stacked = np.vstack([attention, weight * np.eye(len(kept))])
        wanted = np.vstack([missing.double().numpy(), np.zeros((len(kept), DIM))])
        expected = np.linalg.lstsq(stacked, wanted, rcond=None)[0]
        np.testing.assert_allclose((values[head] - VALUES[head, kept]).numpy(), expected, rtol=1e-3, atol=1e-4)


def test_rows_that_are_not_fitted_do_not_count() -> None:
    kept = [1, 2]
    pruned, teacher = seen(KEYS[:, kept], VALUES[:, kept]), seen().only(REAL)
    heads = [(KEYS[head, kept], VALUES[head, kept]) for head in range(KV_HEADS)]
    fitted = REAL & torch.tensor([False, True, True])[:, None]
    first, second = (
        refit_values(pruned, heads, other, real=REAL, fitted_on=fitted, ridge=0.01).values
        for other in (teacher, _with_outputs_of_row_0_changed(teacher))
    )
    assert torch.equal(first, second)
    everything = refit_values(pruned, heads, teacher, real=REAL, fitted_on=REAL, ridge=0.01).values
    assert not torch.allclose(first, everything)


def _with_outputs_of_row_0_changed(teacher: Seen) -> Seen:
    own = seen().marked(REAL & torch.tensor([True, False, False])[:, None])[seen().marked(REAL)]
    outputs = teacher.outputs.clone()
    outputs[:, own] += 5
    return Seen(teacher.queries, outputs, teacher.lse, teacher.scaling, teacher.batch)
