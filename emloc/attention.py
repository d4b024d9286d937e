"""Attention of a batch of rows to (shared memory + their own causal tokens). The one door to fused kernels.

All rows of a batch see the same memory, so its keys and values are stored once: the queries of all rows and of all
query heads of a group are folded into one long query axis and attend to the memory in one product per KV head.
The causal part (each row to itself) is computed apart, and the two are merged by their log-sum-exp, which is exact.
No attention map over the memory is ever stored.
"""

import functools
import warnings
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from emloc.errors import UserError

# (layer number, queries (B, H_q, T, D), keys (B, H_kv, T, D), values, scaling) -> (B, T, H_q, D)
LayerAttention = Callable[[int, Tensor, Tensor, Tensor, float], Tensor]
Kernel = Callable[[Tensor, Tensor, Tensor, bool, float], tuple[Tensor, Tensor]]
Attn = Literal["auto", "fused", "plain"]  # the fastest kernel that is right; it or an error; any device's
_BLOCK = 1024  # keys per block of the plain kernel: bounds its largest temporary


class KeyValues(NamedTuple):
    """Keys and values that all rows of a batch share.

    Where KV heads have different numbers of entries, `counts` says how many, and the tensors are packed, head after
    head, without padding.
    """

    keys: Tensor  # (H_kv, T, D), rotated; or (E, D), E = sum(counts)
    values: Tensor  # as the keys
    counts: tuple[int, ...] | None = None

    @property
    def is_empty(self) -> bool:
        """Whether no KV head has an entry."""
        return self.keys.numel() == 0


def attend(
    queries: Tensor,  # (B, H_q, N, D)
    keys: Tensor,  # (B, H_kv, T, D)
    values: Tensor,  # (B, H_kv, T, D)
    *,
    scaling: float,
    attn: Attn,
    shared: Sequence[KeyValues] = (),
    own_mask: Tensor | None = None,  # (B, N, T) bool, True = visible
) -> Tensor:
    """Attend to every entry of `shared` and to the row's own tokens; returns (B, N, H_q, D).

    Without `own_mask` the own part is causal with N == T (rows padded on the right need no mask: a real token never
    sees the padding behind it). One softmax spans all parts. `attn` says which kernel is used; see `choose_kernel`.
    """
    output, _ = attend_with_lse(queries, keys, values, scaling=scaling, attn=attn, shared=shared, own_mask=own_mask)
    return output.transpose(1, 2).to(queries.dtype)


def attend_with_lse(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    *,
    scaling: float,
    attn: Attn,
    shared: Sequence[KeyValues] = (),
    own_mask: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """As `attend`: the output (B, H_q, N, D), and the log-sum-exp (B, H_q, N) of all logits, which turns any of them
    into its softmax weight: exp(logit - lse). Both are float32 where anything is shared.
    """
    kernel = choose_kernel(queries.device.type, queries.dtype, attn).kernel
    merged = _own_attention(queries, keys, values, scaling, own_mask, kernel)
    for part in shared:
        if not part.is_empty:
            merged = _merge(merged, _shared_attention(queries, part, scaling, kernel))
    return merged


def _own_attention(
    queries: Tensor, keys: Tensor, values: Tensor, scaling: float, own_mask: Tensor | None, kernel: Kernel
) -> tuple[Tensor, Tensor]:
    groups = queries.shape[1] // keys.shape[1]
    keys, values = keys.repeat_interleave(groups, 1), values.repeat_interleave(groups, 1)
    if own_mask is not None:
        # Layers may be on other devices than the rows, which the mask comes from.
        return _masked(queries, keys, values, scaling, own_mask.to(queries.device))
    return kernel(queries, keys, values, True, scaling)


def _shared_attention(queries: Tensor, part: KeyValues, scaling: float, kernel: Kernel) -> tuple[Tensor, Tensor]:
    """Attention of all rows to one shared part: output (B, H_q, N, D) and log-sum-exp (B, H_q, N)."""
    batch, _, length, dim = queries.shape
    kv_heads = part.keys.shape[0] if part.counts is None else len(part.counts)
    folded = fold_groups(queries, kv_heads)
    if part.counts is None:
        out, lse = kernel(folded[None], part.keys[None], part.values[None], False, scaling)
    else:
        out, lse = _by_head(folded, part, part.counts, scaling, kernel)
    out, lse = out.view(kv_heads, -1, dim), lse.reshape(kv_heads, -1, 1)
    return unfold_groups(out, batch, length), unfold_groups(lse, batch, length)[..., 0]


def _by_head(
    folded: Tensor, part: KeyValues, counts: Sequence[int], scaling: float, kernel: Kernel
) -> tuple[Tensor, Tensor]:
    """Attention of folded queries (H_kv, Q, D) to packed entries: one product per KV head, nothing is padded."""
    out = torch.zeros_like(folded)
    lse = torch.full(folded.shape[:2], -torch.inf, device=folded.device)  # a head without entries weighs nothing
    pairs = zip(part.keys.split(list(counts)), part.values.split(list(counts)), strict=True)
    for head, (keys, values) in enumerate(pairs):
        if len(keys):
            found = kernel(folded[head][None, None], keys[None, None], values[None, None], False, scaling)
            out[head], lse[head] = found[0][0, 0], found[1][0, 0]
    return out, lse


def fold_groups(queries: Tensor, kv_heads: int) -> Tensor:
    """(B, H_q, N, D) -> (H_kv, B*G*N, D): the queries of all rows and of the group's heads on one axis."""
    batch, heads, length, dim = queries.shape
    split = queries.view(batch, kv_heads, heads // kv_heads, length, dim).transpose(0, 1)
    return split.reshape(kv_heads, -1, dim)


def unfold_groups(folded: Tensor, batch: int, length: int) -> Tensor:
    """(H_kv, B*G*N, D) -> (B, H_q, N, D), the inverse of `fold_groups`."""
    kv_heads, _, dim = folded.shape
    return folded.view(kv_heads, batch, -1, length, dim).transpose(0, 1).reshape(batch, -1, length, dim)


def _merge(first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Join two partial softmax results over disjoint keys, in float32."""
    (out_a, lse_a), (out_b, lse_b) = first, second
    weight = torch.sigmoid(lse_b - lse_a)[..., None]
    return torch.lerp(out_a.float(), out_b.float(), weight), torch.logaddexp(lse_a, lse_b)


def _masked(queries: Tensor, keys: Tensor, values: Tensor, scaling: float, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Plain attention under a mask, for the few own tokens of a decoding step."""
    logits = (queries.float() @ keys.float().transpose(-1, -2)) * scaling
    logits = logits.masked_fill(~mask[:, None], -torch.inf)
    return logits.softmax(-1) @ values.float(), logits.logsumexp(-1)


class Chosen(NamedTuple):
    """A kernel that also returns the log-sum-exp, and which it is and why, as a run says it."""

    kernel: Kernel
    why: str


@functools.cache
def choose_kernel(device: str, dtype: torch.dtype, attn: Attn = "auto") -> Chosen:
    """The attention kernel for a type of device, and why it is this one.

    A fused kernel is used only after it has reproduced the plain formula on a small input on this very machine.
    `auto` takes the plain one otherwise, with a warning where a fused one fails.

    Raises
    ------
    UserError
        If `attn` is fused, but there is no such kernel or it does not reproduce the formula.
    """
    fused, shown = {"cpu": _fused_cpu, "cuda": _fused_cuda}.get(device), str(dtype).removeprefix("torch.")
    if attn == "plain":
        return Chosen(plain_kernel, "plain kernel (asked for by attn=plain)")
    if fused is not None and _agrees(fused, device, dtype):
        return Chosen(fused, f"fused {device.upper()} kernel (reproduces the plain formula here)")
    if fused is None:
        lacking = f"there is no fused kernel for {device}"
    else:
        lacking = f"the fused kernel of {device} fails here with {shown}"
    if attn == "fused":
        raise UserError(f"Expected attn to be auto or plain, as {lacking}, but got attn=fused.")
    if fused is not None:
        warnings.warn(f"Attention is plain, as {lacking}.", stacklevel=2)
    return Chosen(plain_kernel, f"plain kernel ({lacking})")


def _agrees(kernel: Kernel, device: str, dtype: torch.dtype) -> bool:
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(1, 2, 40, 64, generator=generator).to(device, dtype) for _ in range(3))
    tolerance = 1e-4 if dtype == torch.float32 else 3e-2
    try:
        results = [(kernel(q, k, v, causal, 0.125), plain_kernel(q, k, v, causal, 0.125)) for causal in (True, False)]
    except (RuntimeError, NotImplementedError):
        return False
    pairs = [pair for fused, plain in results for pair in zip(fused, plain, strict=True)]
    return all(torch.allclose(a.float(), b.float(), atol=tolerance) for a, b in pairs)


def _fused_cpu(q: Tensor, k: Tensor, v: Tensor, causal: bool, scaling: float) -> tuple[Tensor, Tensor]:
    return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, k, v, 0.0, causal, scale=scaling)


def _fused_cuda(q: Tensor, k: Tensor, v: Tensor, causal: bool, scaling: float) -> tuple[Tensor, Tensor]:
    out, lse, *_ = torch.ops.aten._scaled_dot_product_efficient_attention(
        q, k, v, None, True, 0.0, causal, scale=scaling
    )
    return out, lse[..., : q.shape[2]]  # the kernel pads its log-sum-exp to a multiple of 32


def plain_kernel(q: Tensor, k: Tensor, v: Tensor, causal: bool, scaling: float) -> tuple[Tensor, Tensor]:
    """Softmax attention in float32, key block by key block; any device. Returns output and log-sum-exp.

    Shapes: q (B, H, N, D), k and v (B, H, T, D); `causal` needs N == T.
    """
    merged: tuple[Tensor, Tensor] | None = None
    for start in range(0, k.shape[2], _BLOCK):
        part = _plain_block(q, k[:, :, start : start + _BLOCK], v[:, :, start : start + _BLOCK], causal, start, scaling)
        merged = part if merged is None else _merge(merged, part)
    assert merged is not None, "attention needs at least one key"
    return merged


def _plain_block(q: Tensor, k: Tensor, v: Tensor, causal: bool, start: int, scaling: float) -> tuple[Tensor, Tensor]:
    logits = (q.float() @ k.float().transpose(-1, -2)) * scaling
    if causal:
        visible = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool, device=q.device).tril(-start)
        # A finite floor keeps rows that see nothing of this block free of NaN; their weight is exactly 0 in the merge.
        logits = logits.masked_fill(~visible, torch.finfo(torch.float32).min)
    # Detached: subtracting it changes neither result, and the subtraction in place would spoil its gradient.
    highest = logits.detach().amax(-1, keepdim=True)
    weights = logits.sub_(highest).exp_()
    total = weights.sum(-1, keepdim=True)
    return weights @ v.float() / total, (highest + total.log()).squeeze(-1)
