"""From attention to token scores: pure functions (paper section 3.2, public reference variant 3; SnapKV)."""

import torch
from torch import Tensor

from emloc.attention import fold_groups

POOL_WIDTH = 5
ANSWER_BONUS = 100.0


def chunk_attention(
    queries: Tensor,  # (B, H_q, A, D) rotated queries of A positions in each row
    own_keys: Tensor,  # (B, H_kv, T, D)
    chunk_keys: Tensor,  # (H_kv, N, D)
    *,
    visible: Tensor,  # (B, A, T) bool: own tokens that position may look at
    counted: Tensor,  # (B, A) bool: positions that are answers, not filler
    scaling: float,
) -> Tensor:  # (H_kv, N) float32
    """Attention mass on every chunk token, summed over rows, counted positions and the heads of a group.

    The softmax runs over {chunk, own row} only: earlier memory is left out of it, as in the reference. Only the
    positions asked for are formed, so the largest temporary is (H_kv, B*G*A, N).
    """
    kv_heads, groups = own_keys.shape[1], queries.shape[1] // own_keys.shape[1]
    own = _own_logits(queries, own_keys, visible, scaling)  # (H_kv, B*G*A)
    chunk = (fold_groups(queries.float(), kv_heads) @ chunk_keys.float().transpose(-1, -2)) * scaling
    normaliser = torch.logaddexp(chunk.logsumexp(-1), own)
    weights = counted[:, None].expand(-1, groups, -1).reshape(1, -1, 1).float()
    return (torch.exp(chunk - normaliser[..., None]) * weights).sum(1)


def _own_logits(queries: Tensor, own_keys: Tensor, visible: Tensor, scaling: float) -> Tensor:
    """Log-sum-exp of each position's logits over its own row: (H_kv, B*G*A)."""
    batch, heads, positions, dim = queries.shape
    kv_heads = own_keys.shape[1]
    grouped = queries.float().view(batch, kv_heads, heads // kv_heads, positions, dim)
    logits = (grouped @ own_keys.float()[:, :, None].transpose(-1, -2)) * scaling
    logits = logits.masked_fill(~visible[:, None, None], -torch.inf)
    return logits.logsumexp(-1).transpose(0, 1).reshape(kv_heads, -1)


def window_attention(queries: Tensor, keys: Tensor, weights: Tensor | None = None) -> Tensor:
    """Attention (H_kv, T) that the last W tokens, queries (H_q, W, D), pay to every key (H_kv, T, D), summed.

    `weights` (W,): of the tokens that look; by default all are 1. The scale is that of the published code, 1 / sqrt(D).
    """
    kv_heads, length, dim = keys.shape
    window = queries.shape[1]
    logits = (fold_groups(queries[None].float(), kv_heads) @ keys.float().transpose(-1, -2)) * dim**-0.5
    visible = torch.ones(window, length, dtype=torch.bool, device=keys.device).tril(length - window)
    logits = logits.view(kv_heads, -1, window, length).masked_fill(~visible, -torch.inf)
    attention = logits.softmax(-1)
    return (attention if weights is None else attention * weights[:, None]).sum((1, 2))


def pool_scores(scores: Tensor, *, width: int = POOL_WIDTH) -> Tensor:
    """Average over a centred window along the last axis; zero padding, and the divisor is always `width`."""
    return torch.nn.functional.avg_pool1d(scores, width, stride=1, padding=width // 2, count_include_pad=True)


def protect(scores: Tensor, answers: Tensor, *, bonus: float = ANSWER_BONUS) -> Tensor:
    """Raise answer tokens above all others: (H_kv, N) scores, (N,) bool answers.

    Protection is not absolute: where there are more answer tokens than places, the lowest-scored ones go.
    """
    return scores + bonus * answers.to(scores)


def top_indices(scores: Tensor, count: int, *, reserved: int = 0) -> Tensor:
    """The `count` best tokens of each KV head, (H_kv, count) ascending: storage in the order of the context.

    `reserved` of each head's scores are infinite, and theirs are the first places. The others are compared among
    themselves alone, so that equal scores are told apart in the same way whatever is reserved.
    """
    if not reserved:
        return scores.topk(count, dim=-1).indices.sort(dim=-1).values
    order = scores.isinf().int().argsort(dim=-1, stable=True)  # the finite ones first, each part in its order
    finite, infinite = order.split([scores.shape[-1] - reserved, reserved], dim=-1)
    best = scores.gather(-1, finite).topk(count - reserved, dim=-1).indices
    return torch.cat([finite.gather(-1, best), infinite], dim=-1).sort(dim=-1).values
