"""The video method once more, as plain as can be: dense attention in float64, whole forwards, loops, no shared code."""

import math
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from emloc.backbones.base import Backbone

Cache = list[tuple[Tensor, Tensor]]  # per layer, keys and values (H_kv, M, D)


@dataclass
class PlainRun:
    """What a forward gives: logits (T, V), and per layer its own keys and values and its attention logits."""

    logits: Tensor
    cache: Cache
    attention: list[Tensor]  # (H_q, T, M + T) before the softmax, -inf where masked


@dataclass
class PlainResult:
    """What is left of a video, and how it was decided."""

    tried: list[list[tuple[int, float, int, float, bool]]] = field(default_factory=list)  # per window
    kept: list[list[list[list[int]]]] = field(default_factory=list)  # per window, layer and KV head
    answer: list[int] = field(default_factory=list)
    offset: int = 0


def forward(backbone: Backbone, embeds: Tensor, positions: Tensor, memory: Cache) -> PlainRun:
    """The decoder on embeds (T, C) at positions (3, T), all of `memory` visible."""
    hidden, cache, maps = embeds.double(), [], []
    for layer, (old_keys, old_values) in zip(backbone.layers, memory, strict=True):
        attention: Any = layer.self_attn
        normed = _norm(hidden, layer.input_layernorm)
        q, k, v = (_heads(normed, projection) for projection in (attention.q_proj, attention.k_proj, attention.v_proj))
        q, k = _rotate(q, positions), _rotate(k, positions)
        cache.append((k, v))
        keys, values = torch.cat([old_keys, k], 1), torch.cat([old_values, v], 1)
        groups, length, before = q.shape[0] // k.shape[0], q.shape[1], old_keys.shape[1]
        logits = torch.stack([q[head] @ keys[head // groups].T / math.sqrt(q.shape[-1]) for head in range(q.shape[0])])
        for place in range(length):
            logits[:, place, before + place + 1 :] = -math.inf
        maps.append(logits)
        mixed = torch.stack([logits[head].softmax(-1) @ values[head // groups] for head in range(q.shape[0])])
        hidden = hidden + mixed.transpose(0, 1).flatten(1) @ attention.o_proj.weight.double().T
        normed, mlp = _norm(hidden, layer.post_attention_layernorm), layer.mlp
        gate, up = normed @ mlp.gate_proj.weight.double().T, normed @ mlp.up_proj.weight.double().T
        hidden = hidden + (gate * gate.sigmoid() * up) @ mlp.down_proj.weight.double().T
    final = _norm(hidden, backbone.model.model.language_model.norm)
    return PlainRun(final @ backbone.output_matrix.double().T, cache, maps)


def _norm(hidden: Tensor, norm: Any) -> Tensor:
    return norm.weight.double() * hidden / (hidden.square().mean(-1, keepdim=True) + norm.variance_epsilon).sqrt()


def _heads(hidden: Tensor, projection: Any) -> Tensor:
    """(H, T, 16)."""
    out = hidden @ projection.weight.double().T + projection.bias.double()
    return out.unflatten(1, (-1, 16)).transpose(0, 1)


def _rotate(x: Tensor, positions: Tensor) -> Tensor:
    """mRoPE with sections 2, 3, 3 of the 8 frequencies, as `tests/support/checkpoints.py` configures it."""
    axes = [0, 0, 1, 1, 1, 2, 2, 2]
    angles = torch.stack([positions[axis].double() * 1e6 ** (-n / 8) for n, axis in enumerate(axes)], dim=-1)
    first, second = x[..., :8], x[..., 8:]
    turned = [first * angles.cos() - second * angles.sin(), second * angles.cos() + first * angles.sin()]
    return torch.cat(turned, dim=-1)


def condense(
    backbone: Backbone,
    prompt: Any,  # the Row of the whole prompt
    visual: range,  # its visual tokens
    *,
    window_tokens: int,
    ratios: tuple[float, ...],
    delta: float,
    groups: list[list[int]],
    js_tokens: int,
    start: tuple[Cache, int],
    new_tokens: int,
) -> PlainResult:
    """Condense the video in `prompt` behind the memory and offset `start`, and answer."""
    memory, base = start
    result = PlainResult()
    cuts = [0, *range(visual.start, visual.stop, window_tokens)[1:], visual.stop + 1]  # behind the vision-end marker
    tail = prompt.embeds[cuts[-1] :]
    places = torch.arange(len(tail)).expand(3, -1)
    for begin, end in pairwise(cuts):
        window = forward(backbone, prompt.embeds[begin:end], prompt.positions[:, begin:end] + base, memory).cache
        behind = places + base + int(prompt.positions[:, :end].max()) + 1
        tried, kept = _prune(backbone, (tail, behind), memory, window, ratios, delta, groups, js_tokens)
        memory = joined(memory, selected(window, kept))
        result.tried.append(tried)
        result.kept.append(kept)
    result.offset = base + int(prompt.positions[:, cuts[-1]].max())
    _answer(backbone, tail, memory, result, new_tokens)
    return result


def _prune(
    backbone: Backbone,
    probe: tuple[Tensor, Tensor],
    memory: Cache,
    window: Cache,
    ratios: tuple[float, ...],
    delta: float,
    groups: list[list[int]],
    js_tokens: int,
) -> tuple[list[tuple[int, float, int, float, bool]], list[list[list[int]]]]:
    """What was tried on a window, and what is kept of it."""
    tokens = window[0][0].shape[1]
    teacher = forward(backbone, *probe, joined(memory, window))
    lengths = [keys.shape[1] for keys, _ in memory]
    scores = [_scores(logits, before, tokens) for logits, before in zip(teacher.attention, lengths, strict=True)]
    kept, tried = [[list(range(tokens))] * 2] * backbone.n_layers, []
    for group in groups:
        for ratio in ratios:
            count = math.floor(ratio * tokens)
            if count == 0:
                continue
            trial = [_top(scores[n], count) if n in group else kept[n] for n in range(backbone.n_layers)]
            student = forward(backbone, *probe, joined(memory, selected(window, trial)))
            js = divergence(teacher.logits[-js_tokens:], student.logits[-js_tokens:])
            tried.append((group[0], ratio, count, js, js <= delta))
            if js <= delta:
                kept = trial
                break
    return tried, kept


def _answer(backbone: Backbone, tail: Tensor, memory: Cache, result: PlainResult, count: int) -> None:
    for _ in range(count):
        positions = torch.arange(len(tail)).expand(3, -1) + result.offset
        token = forward(backbone, tail, positions, memory).logits[-1].argmax()
        if int(token) in backbone.end_ids:
            return
        result.answer.append(int(token))
        tail = torch.cat([tail, backbone.embed(token[None])])


def _scores(logits: Tensor, before: int, tokens: int) -> Tensor:
    """(H_kv, N): mean over the two heads of a group, sum over the tail; averaged over five neighbours."""
    attention = logits[:, :, before:].softmax(-1)[:, :, :tokens].sum(1)
    mean = attention.unflatten(0, (2, 2)).mean(1)
    padded = torch.nn.functional.pad(mean, (2, 2))
    return torch.stack([padded[:, at : at + 5].sum(1) / 5 for at in range(tokens)], dim=1)


def _top(scores: Tensor, count: int) -> list[list[int]]:
    return [sorted(sorted(range(len(head)), key=lambda at: -head[at])[:count]) for head in scores.tolist()]


def selected(cache: Cache, kept: list[list[list[int]]]) -> Cache:
    """Of every layer and KV head the tokens `kept`."""
    layers = zip(cache, kept, strict=True)
    return [(_picked(keys, heads), _picked(values, heads)) for (keys, values), heads in layers]


def _picked(part: Tensor, heads: list[list[int]]) -> Tensor:
    return torch.stack([head[at] for head, at in zip(part, heads, strict=True)])


def joined(one: Cache, other: Cache) -> Cache:
    """Both, one behind the other."""
    pairs = zip(one, other, strict=True)
    return [(torch.cat([a, c], 1), torch.cat([b, d], 1)) for (a, b), (c, d) in pairs]


def divergence(one: Tensor, other: Tensor) -> float:
    """Mean Jensen-Shannon divergence (nats) of the rows' distributions."""
    p, q = one.softmax(-1), other.softmax(-1)
    m = (p + q) / 2
    return float((p * (p / m).log() + q * (q / m).log()).sum(-1).mean() / 2)
