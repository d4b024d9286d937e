"""The text model's forward for training: the stock weights, batched episodes, and two views of the context.

Shapes: B episodes, D demonstrations of L tokens each, T = prefix + D * L tokens, H hidden, K keys, R supervised rows.

- `full` attention is the stock forward (a test holds the two equal): everything earlier is seen.
- `sparse` attention shows a demonstration its own tokens and, of every earlier one, only the label token. This is what
  is left of a context that has been pruned well. It is some ten times cheaper on long episodes, and learning from both
  views is what makes the model indifferent to the pruning of everything else.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers.models.qwen2_vl.modeling_qwen2_vl import Qwen2VLAttention, Qwen2VLTextModel

NEVER = -1e9  # a logit of no weight (finite: a row without any allowed key must not give NaN)


@dataclass(frozen=True)
class Layout:
    """Where things are in one demonstration, and how many there are. All episodes of a batch share it."""

    demonstrations: int
    length: int  # L
    image: slice  # of the visual tokens, within the demonstration
    answer: int  # the position that predicts the label; the label follows it
    prefix: int = 0  # tokens before the first demonstration (the system turn)

    @property
    def tokens(self) -> int:
        """T."""
        return self.prefix + self.demonstrations * self.length


@dataclass(frozen=True)
class Masks:
    """What the supervised rows (answer and label position of each demonstration, R = 2 D) may and should look at."""

    allowed: Tensor  # bool (R, K)
    own_image: Tensor  # bool (R, K)
    same_class: Tensor  # bool (B, D, K): labels of the same class, for the answer rows
    far: Tensor  # bool (R, K): tokens of earlier demonstrations
    far_labels: Tensor  # bool (K,): label tokens


@dataclass
class Supervision:
    """Attention losses, summed over layers; what each is for stands in `attention_losses`."""

    own_layers: tuple[int, ...]
    match_layers: tuple[int, ...]
    seen: Tensor  # bool (B, D): demonstrations whose class was seen before
    masks: Masks
    own: Tensor
    match: Tensor
    stray: Tensor
    junk: Tensor
    rows: Tensor | None = None  # token numbers (R',), any tokens, whose attention to everything is looked at for `junk`
    clean: Tensor | None = None  # bool (R', T): what these rows may look at


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    half = x.shape[-1] // 2
    return x * cos + torch.cat((-x[..., half:], x[..., :half]), dim=-1) * sin


def _project(attention: Qwen2VLAttention, x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Rotated queries, keys and values, each (B, heads, T, head size), keys and values repeated for their group."""
    q, k, v = (f(x).unflatten(-1, (-1, attention.head_dim)).transpose(1, 2) for f in
               (attention.q_proj, attention.k_proj, attention.v_proj))  # fmt: skip
    q, k = _rotate(q, cos, sin).to(v.dtype), _rotate(k, cos, sin).to(v.dtype)
    group = attention.num_key_value_groups
    return q, k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)


def _rows(layout: Layout, device: torch.device) -> Tensor:
    """Token numbers of the supervised rows: answer and label position of each demonstration, (2 D,)."""
    starts = layout.prefix + torch.arange(layout.demonstrations, device=device) * layout.length
    return torch.stack((starts + layout.answer, starts + layout.answer + 1), 1).flatten()


def full_attention(q: Tensor, k: Tensor, v: Tensor, layout: Layout, rows: bool) -> tuple[Tensor, Tensor | None]:
    """Causal attention, (B, heads, T, head size); with `rows` also the supervised rows' logits (B, heads, R, T)."""
    mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    if not rows:
        return mixed, None
    chosen = q[:, :, _rows(layout, q.device)]
    return mixed, (chosen @ k.transpose(-1, -2)).float() * q.shape[-1] ** -0.5


def sparse_attention(q: Tensor, k: Tensor, v: Tensor, layout: Layout, rows: bool) -> tuple[Tensor, Tensor | None]:
    """Attention to own tokens and earlier labels; rows' logits are (B, heads, R, L + D): own tokens, then labels."""
    count, length, label = layout.demonstrations, layout.length, layout.answer + 1
    q, k, v = (t.unflatten(2, (count, length)) for t in (q, k, v))  # (B, heads, D, L, head size)
    own = (q @ k.transpose(-1, -2)).float()
    far = (q.flatten(2, 3) @ k[:, :, :, label].transpose(-1, -2)).float().unflatten(2, (count, length))
    logits = torch.cat((own, far), dim=-1) * q.shape[-1] ** -0.5
    weights = logits.masked_fill(~_sparse_allowed(layout, q.device), NEVER).softmax(-1).to(v.dtype)
    mixed = weights[..., :length] @ v
    mixed = mixed + (weights[..., length:].flatten(2, 3) @ v[:, :, :, label]).unflatten(2, (count, length))
    chosen = logits[:, :, :, layout.answer : layout.answer + 2].flatten(2, 3) if rows else None
    return mixed.flatten(2, 3), chosen


def _sparse_allowed(layout: Layout, device: torch.device) -> Tensor:
    """What each token sees in the sparse view, bool (D, L, L + D)."""
    count, length = layout.demonstrations, layout.length
    own = torch.ones(length, length, dtype=torch.bool, device=device).tril().expand(count, -1, -1)
    far = torch.ones(count, count, dtype=torch.bool, device=device).tril(-1)[:, None].expand(-1, length, -1)
    return torch.cat((own, far), dim=-1)


def make_masks(layout: Layout, classes: Tensor, sparse: bool) -> Masks:
    """The masks of a batch with class numbers `classes` (B, D)."""
    count, device = layout.demonstrations, classes.device
    image = torch.zeros(layout.length, dtype=torch.bool, device=device)
    image[layout.image] = True
    number = torch.arange(count, device=device)
    row = number.repeat_interleave(2)  # the demonstration of each row
    same = (classes[:, :, None] == classes[:, None, :]) & (number[:, None] > number[None, :])  # (B, D, D)
    if sparse:
        allowed = _sparse_allowed(layout, device)[:, layout.answer : layout.answer + 2].flatten(0, 1)
        none = torch.zeros(2 * count, count, dtype=torch.bool, device=device)
        own = torch.cat((image.expand(2 * count, -1), none), 1)
        far = torch.arange(layout.length + count, device=device).expand(2 * count, -1) >= layout.length
        blank = torch.zeros(*same.shape[:2], layout.length, dtype=torch.bool, device=device)
        return Masks(allowed, own, torch.cat((blank, same), 2), far & allowed, far[0])
    key = torch.arange(layout.tokens, device=device)
    place = key - layout.prefix
    demo = torch.where(place >= 0, place // layout.length, -1)
    within = torch.where(place >= 0, place % layout.length, 0)
    allowed = key[None, :] <= _rows(layout, device)[:, None]
    own = (demo[None, :] == row[:, None]) & image[within][None, :] & (place >= 0)
    label = (within == layout.answer + 1) & (place >= 0)
    spread = same[:, :, demo.clamp(min=0)] & label
    return Masks(allowed, own, spread, (demo[None, :] < row[:, None]) & (place >= 0), label)


def _log_mass(logits: Tensor, chosen: Tensor, total: Tensor) -> Tensor:
    """log of the attention mass on `chosen`, from logits (..., K) and their logsumexp `total` (...)."""
    return logits.masked_fill(~chosen, NEVER).logsumexp(-1) - total


def attention_losses(logits: Tensor, layer: int, aim: Supervision) -> None:
    """Adds one layer's losses, means over heads and rows, to `aim`:

    own: lowest layers, answer and label rows should look at their own image;
    match: middle layers, answer rows should look at labels of the same class;
    stray: every layer, rows should not look at earlier demonstrations except, in the match layers, at label tokens.
    """
    masks = aim.masks
    logits = logits.masked_fill(~masks.allowed, NEVER)
    total = logits.logsumexp(-1)
    if layer in aim.own_layers:
        aim.own = aim.own - _log_mass(logits, masks.own_image, total).mean()
    if layer in aim.match_layers:
        mass = _log_mass(logits[:, :, 0::2], masks.same_class[:, None], total[:, :, 0::2])
        weight = aim.seen[:, None].expand_as(mass).float()
        aim.match = aim.match - (mass * weight).sum() / weight.sum().clamp(min=1)
    stray = masks.far & ~masks.far_labels if layer in aim.match_layers else masks.far
    aim.stray = aim.stray - _log_mass(logits, masks.allowed & ~stray, total).mean()


def clean_rows(layout: Layout, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """`count` random token numbers (R',) and what they may look at (R', T): the prefix, own tokens, earlier labels."""
    rows = torch.randint(layout.prefix, layout.tokens, (count,), generator=generator)
    answers = _rows(layout, rows.device)  # every other row is an answer or label position
    rows[::2] = answers[torch.randint(len(answers), rows[::2].shape, generator=generator)]
    key = torch.arange(layout.tokens)
    demo, within = (key - layout.prefix) // layout.length, (key - layout.prefix) % layout.length
    label = (within == layout.answer + 1) & (demo >= 0)
    return rows, (key <= rows[:, None]) & ((demo < 0) | label | (demo == demo[rows][:, None]))


def junk_loss(q: Tensor, k: Tensor, aim: Supervision) -> Tensor:
    """-log of the attention mass that stays clean, mean over `aim.rows`, even where the mixing itself was sparse.

    A long context has thousands of tokens that nobody needs; in the full view each must be ignored. Looking at a few
    rows costs a small part of full attention over the whole episode.
    """
    assert aim.rows is not None
    assert aim.clean is not None
    logits = (q[:, :, aim.rows] @ k.transpose(-1, -2)).float() * q.shape[-1] ** -0.5
    causal = torch.arange(k.shape[2], device=k.device) <= aim.rows[:, None]
    return (
        logits.masked_fill(~causal, NEVER).logsumexp(-1) - logits.masked_fill(~aim.clean, NEVER).logsumexp(-1)
    ).mean()


def forward(
    model: Qwen2VLTextModel,
    hidden: Tensor,
    positions: Tensor,
    layout: Layout,
    *,
    sparse: bool,
    aim: Supervision | None = None,
) -> Tensor:
    """Embeddings (B, T, H) at mRoPE `positions` (3, B, T) -> normed final states (B, T, H).

    With `aim`, attention losses are added to it on the way.
    """
    cos, sin = (t[:, None] for t in model.rotary_emb(hidden, positions))
    attend = sparse_attention if sparse else full_attention
    for number, layer in enumerate(model.layers):
        q, k, v = _project(layer.self_attn, layer.input_layernorm(hidden), cos, sin)
        mixed, logits = attend(q, k, v, layout, aim is not None)
        if aim is not None and logits is not None:
            attention_losses(logits, number, aim)
            if aim.rows is not None:
                aim.junk = aim.junk + junk_loss(q, k, aim)
        hidden = hidden + layer.self_attn.o_proj(mixed.transpose(1, 2).flatten(2))
        hidden = hidden + layer.mlp(layer.post_attention_layernorm(hidden))
    return model.norm(hidden)
