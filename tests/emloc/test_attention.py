"""Attention over shared memory + own tokens against one plain softmax over everything."""

from typing import Any

import pytest
import torch
from torch import Tensor

from emloc import UserError, attention
from emloc.attention import KeyValues, attend, attend_with_lse, choose_kernel, plain_kernel

BATCH, HEADS, KV_HEADS, LENGTH, DIM = 3, 4, 2, 7, 16
SCALING = DIM**-0.5


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def whole_softmax(q: Tensor, k: Tensor, v: Tensor, shared: list[KeyValues], mask: Tensor) -> Tensor:
    """One float64 softmax over memory and own tokens, GQA expanded: the definition."""
    keys = torch.cat([*(part.keys.expand(BATCH, -1, -1, -1) for part in shared), k], 2)
    values = torch.cat([*(part.values.expand(BATCH, -1, -1, -1) for part in shared), v], 2)
    keys, values = (x.repeat_interleave(HEADS // KV_HEADS, 1).double() for x in (keys, values))
    past = torch.ones(*mask.shape[:2], keys.shape[2] - k.shape[2], dtype=torch.bool)
    logits = q.double() @ keys.transpose(-1, -2) * SCALING
    logits = logits.masked_fill(~torch.cat([past, mask], -1)[:, None], -torch.inf)
    return (logits.softmax(-1) @ values).transpose(1, 2).float()


def memory_of(*lengths: int) -> list[KeyValues]:
    return [KeyValues(drawn(KV_HEADS, n, DIM), drawn(KV_HEADS, n, DIM) + 1) for n in lengths]


@pytest.mark.parametrize("lengths", [(), (5,), (2500,), (30, 0, 9)])
def test_causal_rows_over_memory(lengths: tuple[int, ...]) -> None:
    q, k, v = drawn(BATCH, HEADS, LENGTH, DIM), drawn(BATCH, KV_HEADS, LENGTH, DIM), drawn(BATCH, KV_HEADS, LENGTH, DIM)
    shared = memory_of(*lengths)
    causal = torch.ones(LENGTH, LENGTH, dtype=torch.bool).tril().expand(BATCH, -1, -1)
    ours = attend(q, k, v, scaling=SCALING, attn="auto", shared=shared)
    assert ours.shape == (BATCH, LENGTH, HEADS, DIM)
    torch.testing.assert_close(ours, whole_softmax(q, k, v, shared, causal), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("counts", [(5, 2), (0, 9), (1100, 3), (0, 0)])
def test_kv_heads_with_different_numbers_of_entries(counts: tuple[int, ...]) -> None:
    """Packed, head after head, against every KV head by itself, next to a part whose heads have equally many."""
    q, k, v = drawn(BATCH, HEADS, LENGTH, DIM), drawn(BATCH, KV_HEADS, LENGTH, DIM), drawn(BATCH, KV_HEADS, LENGTH, DIM)
    equal, total = memory_of(4)[0], sum(counts)
    packed = KeyValues(drawn(total, DIM), drawn(total, DIM) + 1, counts)
    ours = attend(q, k, v, scaling=SCALING, attn="auto", shared=[equal, packed])
    causal = torch.ones(LENGTH, LENGTH, dtype=torch.bool).tril().expand(BATCH, -1, -1)
    groups = HEADS // KV_HEADS
    for head, (keys, values) in enumerate(zip(packed.keys.split(counts), packed.values.split(counts), strict=True)):
        everywhere = KeyValues(*(part.expand(KV_HEADS, -1, -1) for part in (keys, values)))
        expected = whole_softmax(q, k, v, [equal, everywhere], causal)
        mine = slice(head * groups, (head + 1) * groups)
        torch.testing.assert_close(ours[:, :, mine], expected[:, :, mine], atol=1e-5, rtol=1e-5)


def test_the_log_sum_exp_turns_logits_into_weights() -> None:
    q, k, v = drawn(BATCH, HEADS, LENGTH, DIM), drawn(BATCH, KV_HEADS, LENGTH, DIM), drawn(BATCH, KV_HEADS, LENGTH, DIM)
    (shared,) = memory_of(6)
    _, lse = attend_with_lse(q, k, v, scaling=SCALING, attn="auto", shared=[shared])
    past = q @ shared.keys.repeat_interleave(HEADS // KV_HEADS, 0).transpose(-1, -2) * SCALING
    own = q @ k.repeat_interleave(HEADS // KV_HEADS, 1).transpose(-1, -2) * SCALING
    own = own.masked_fill(~torch.ones(LENGTH, LENGTH, dtype=torch.bool).tril(), -torch.inf)
    torch.testing.assert_close(lse, torch.cat([past, own], -1).logsumexp(-1), atol=1e-5, rtol=1e-5)


def test_decoding_step_under_a_mask() -> None:
    q, k, v = drawn(BATCH, HEADS, 1, DIM), drawn(BATCH, KV_HEADS, LENGTH, DIM), drawn(BATCH, KV_HEADS, LENGTH, DIM)
    shared = memory_of(11)
    mask = torch.arange(LENGTH) < torch.tensor([7, 3, 1])[:, None, None]
    ours = attend(q, k, v, scaling=SCALING, attn="auto", shared=shared, own_mask=mask)
    torch.testing.assert_close(ours, whole_softmax(q, k, v, shared, mask), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_fused_kernel_is_used_and_equals_the_plain_one(causal: bool, dtype: torch.dtype) -> None:
    kernel = choose_kernel("cpu", dtype).kernel
    assert kernel is not plain_kernel
    q, k, v = (drawn(1, 2, 1500, DIM).to(dtype) for _ in range(3))
    tolerance = 1e-5 if dtype == torch.float32 else 2e-2
    for fused, plain in zip(kernel(q, k, v, causal, SCALING), plain_kernel(q, k, v, causal, SCALING), strict=True):
        torch.testing.assert_close(fused.float(), plain.float(), atol=tolerance, rtol=tolerance)


def test_a_run_says_which_kernel_and_why(monkeypatch: pytest.MonkeyPatch) -> None:
    choose = choose_kernel.__wrapped__  # what it finds here is cached
    fused = choose("cpu", torch.float32)
    assert fused.why == "fused CPU kernel (reproduces the plain formula here)"
    assert choose("cpu", torch.float32, "fused") == fused
    assert choose("cpu", torch.float32, "plain") == (plain_kernel, "plain kernel (asked for by attn=plain)")
    assert choose("mps", torch.float32) == (plain_kernel, "plain kernel (there is no fused kernel for mps)")
    with pytest.raises(UserError, match=r"^Expected attn to be auto or plain, as there is no fused kernel for mps"):
        choose("mps", torch.float32, "fused")
    monkeypatch.setattr(attention, "_agrees", lambda *_: False)
    with pytest.warns(UserWarning, match="Attention is plain, as the fused kernel of cpu fails here with float32"):
        assert choose("cpu", torch.float32).kernel is plain_kernel
    with pytest.raises(UserError, match="as the fused kernel of cpu fails here with float32, but got attn=fused"):
        choose("cpu", torch.float32, "fused")


def test_the_kernel_that_is_asked_for_is_the_one_that_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    q, k, v = drawn(BATCH, HEADS, LENGTH, DIM), drawn(BATCH, KV_HEADS, LENGTH, DIM), drawn(BATCH, KV_HEADS, LENGTH, DIM)
    called: list[str] = []
    for name in ("_fused_cpu", "plain_kernel"):
        real = getattr(attention, name)
        monkeypatch.setattr(attention, name, lambda *given, n=name, f=real: (called.append(n), f(*given))[1])
    monkeypatch.setattr(attention, "choose_kernel", choose_kernel.__wrapped__)
    monkeypatch.setattr(attention, "_agrees", lambda *_: True)
    attend(q, k, v, scaling=SCALING, attn="plain", shared=memory_of(5))
    attend(q, k, v, scaling=SCALING, attn="fused", shared=memory_of(5))
    assert called == ["plain_kernel"] * 2 + ["_fused_cpu"] * 2


@pytest.mark.parametrize("causal", [True, False])
def test_the_plain_kernel_equals_the_definition(causal: bool) -> None:
    """Longer than its block of keys, so that blocks are merged."""
    q, k, v = drawn(1, 2, 2100, DIM), drawn(1, 2, 2100, DIM) + 1, drawn(1, 2, 2100, DIM) - 1
    out, lse = plain_kernel(q, k, v, causal, SCALING)
    expected = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=causal, scale=SCALING)
    torch.testing.assert_close(out, expected, atol=1e-5, rtol=1e-5)
    logits = q @ k.transpose(-1, -2) * SCALING
    logits = logits.masked_fill(torch.ones(2100, 2100, dtype=torch.bool).triu(1), -torch.inf) if causal else logits
    torch.testing.assert_close(lse, logits.logsumexp(-1), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("attn", ["fused", "plain"])
def test_gradients_are_those_of_the_formula(attn: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which training needs; with several key blocks in the plain kernel."""
    monkeypatch.setattr(attention, "_BLOCK", 4)
    drawn_ = drawn(BATCH, HEADS, LENGTH, DIM), drawn(BATCH, KV_HEADS, LENGTH, DIM), drawn(BATCH, KV_HEADS, LENGTH, DIM)
    causal = torch.ones(LENGTH, LENGTH, dtype=torch.bool).tril().expand(BATCH, -1, -1)
    weights, gradients = drawn(BATCH, LENGTH, HEADS, DIM), []
    for formula in (False, True):
        q, k, v = (x.clone().requires_grad_() for x in drawn_)
        ours = whole_softmax(q, k, v, [], causal) if formula else attend(q, k, v, scaling=SCALING, attn=attn)
        (ours * weights).sum().backward()
        gradients.append((q.grad, k.grad, v.grad))
    for found, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
