"""Second stage: the text model learns to learn from demonstrations, on the visual tokens of the trained tower."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import Qwen2VLForConditionalGeneration
from transformers.models.qwen2_vl.modeling_qwen2_vl import Qwen2VLAttention

from experiments.miniature import text
from experiments.miniature.episodes import SIDE, Batch, Writer, make_batch
from experiments.miniature.images import Pool
from experiments.miniature.loop import StepFunction
from experiments.miniature.vision import encode

OWN_LAYERS = (0, 1)  # here answer and label positions collect their own image
MATCH_LAYERS = (3, 4)  # here answer positions look for labels of like images


@dataclass(frozen=True)
class Lesson:
    """One stage of the text model's training."""

    kinds: tuple[tuple[int, int], ...]  # (ways, demonstrations), drawn evenly
    demonstrations: int = 256  # per step, over all episodes
    full: float = 0.5  # share of steps with full attention
    full_limit: int = 48  # longest episode, in demonstrations, with full attention
    duplicates: float = 0.1
    reach: int = 6000  # positions
    side: int = SIDE  # visual tokens a side; fewer means shortened text
    own: float = 0.3  # weights of the attention losses
    match: float = 0.5
    stray: float = 0.1
    junk: float = 0.0
    junk_rows: int = 0  # rows per episode that the junk loss looks at
    longest: int = 10  # tokens of a random question
    endings: int = 1  # tokens after the label that are trained too: end of turn, newline
    train_vision: bool = False


def pool_tokens(visual: Tensor, side: int) -> Tensor:
    """Visual tokens (B, D, 16, H) averaged over neighbours to (B, D, side * side, H)."""
    if side == SIDE:
        return visual
    grid = visual.unflatten(2, (side, SIDE // side, side, SIDE // side))
    return grid.mean((3, 5)).flatten(2, 3)


def embed(model: Qwen2VLForConditionalGeneration, batch: Batch, train_vision: bool) -> Tensor:
    """Input embeddings of a batch, (B, T, H), visual tokens in place."""
    episodes, count = batch.source.shape
    with torch.set_grad_enabled(train_vision and torch.is_grad_enabled()):
        visual = encode(model.model.visual, batch.images).unflatten(0, (episodes, count))
    image = batch.layout.image
    visual = pool_tokens(visual, math.isqrt(image.stop - image.start))
    visual = visual.gather(1, batch.source[:, :, None, None].expand(-1, -1, *visual.shape[2:]))
    words = model.model.language_model.embed_tokens(batch.ids)
    pads = (batch.ids == model.config.image_token_id)[..., None]
    return words.masked_scatter(pads, visual.to(words.dtype))


def answer_losses(
    model: Qwen2VLForConditionalGeneration, hidden: Tensor, batch: Batch, endings: int
) -> tuple[Tensor, Tensor]:
    """Loss of the labels of classes seen before (a little of the endings with it), and which were right (n,)."""
    layout, seen = batch.layout, batch.seen
    hidden, ids = (
        t[:, layout.prefix :].unflatten(1, (layout.demonstrations, layout.length))[:, :, layout.answer :]
        for t in (hidden, batch.ids)
    )
    logits = model.lm_head(hidden[:, :, 0][seen]).float()
    target = batch.labels[seen]
    ends = model.lm_head(hidden[:, :, 1 : 1 + endings].flatten(0, 2)).float()
    closing = F.cross_entropy(ends, ids[:, :, 2 : 2 + endings].flatten())
    return F.cross_entropy(logits, target) + 0.1 * endings * closing, logits.argmax(-1) == target


def lesson_loss(
    model: Qwen2VLForConditionalGeneration, batch: Batch, lesson: Lesson, sparse: bool
) -> tuple[Tensor, dict[str, float]]:
    """The training loss of a batch and what to report of it."""
    masks = text.make_masks(batch.layout, batch.classes, sparse)
    zero = torch.zeros((), device=batch.ids.device)
    aim = text.Supervision(OWN_LAYERS, MATCH_LAYERS, batch.seen, masks, zero, zero, zero, zero)
    if lesson.junk_rows:
        generator = torch.Generator().manual_seed(int(batch.labels.sum()))
        rows, clean = text.clean_rows(batch.layout, lesson.junk_rows, generator)
        aim.rows, aim.clean = rows.to(zero.device), clean.to(zero.device)
    with torch.autocast(batch.ids.device.type, torch.bfloat16):
        hidden = embed(model, batch, lesson.train_vision)
        hidden = text.forward(model.model.language_model, hidden, batch.positions, batch.layout, sparse=sparse, aim=aim)
        loss, right = answer_losses(model, hidden, batch, lesson.endings)
    total = loss + lesson.own * aim.own + lesson.match * aim.match + lesson.stray * aim.stray
    total = total + lesson.junk * aim.junk
    view = "sparse" if sparse else "full"
    numbers = {f"loss_{view}": loss, f"hits_{view}": right.float().mean(), "own": aim.own, "match": aim.match}
    numbers |= {f"stray_{view}": aim.stray} | ({"junk": aim.junk} if lesson.junk_rows else {})
    return total, {key: float(value.detach()) for key, value in numbers.items()}


def make_step(model: Qwen2VLForConditionalGeneration, pool: Pool, writer: Writer, lesson: Lesson) -> StepFunction:
    """The step function of a lesson, for `loop.run_stage`."""

    def step(_: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        chance = torch.rand(3, generator=generator).tolist()
        ways, count = lesson.kinds[int(chance[0] * len(lesson.kinds))]
        sparse = count > lesson.full_limit or chance[1] >= lesson.full
        batch = make_batch(
            pool, writer, generator, ways=ways, count=count, episodes=max(1, lesson.demonstrations // count),
            duplicates=lesson.duplicates, reach=lesson.reach, system=not sparse and chance[2] < 0.8,
            side=lesson.side, longest=lesson.longest,
        )  # fmt: skip
        return lesson_loss(model, batch.to(model.device), lesson, sparse)

    return step


def _carry(attention: Qwen2VLAttention, basis: Tensor, scale: float) -> None:
    """Let what an attention layer reads and what it writes be the same coordinates: values are projected on `basis`
    (orthonormal rows, (KV heads * head size, H)) and written back along it."""
    attention.v_proj.weight.copy_(basis)
    groups = basis.unflatten(0, (-1, attention.head_dim)).repeat_interleave(attention.num_key_value_groups, 0)
    attention.o_proj.weight.copy_(groups.flatten(0, 1).T * scale)


def _match(attention: Qwen2VLAttention, basis: Tensor, scale: float, fast: int) -> None:
    """Let queries and keys be the same coordinates, so that likeness is what attends; the `fast` frequencies, which
    turn too far over a context to carry content, start near zero."""
    rows = basis.unflatten(0, (-1, attention.head_dim)).clone()
    half = attention.head_dim // 2
    rows[:, :fast] *= 0.1
    rows[:, half : half + fast] *= 0.1
    attention.k_proj.weight.copy_(rows.flatten(0, 1))
    attention.q_proj.weight.copy_(rows.repeat_interleave(attention.num_key_value_groups, 0).flatten(0, 1) * scale)


def prepare(model: Qwen2VLForConditionalGeneration, seed: int = 0) -> None:
    """Where the text model starts from: the two attention hops that it must learn are laid out, not yet tuned.

    Values are read and written in the same coordinates in the collecting and the matching layers (each pair of layers
    shares the hidden size between them), and queries equal keys in the matching layers.
    """
    generator = torch.Generator().manual_seed(seed)
    language = model.model.language_model
    with torch.no_grad():
        table = language.embed_tokens.weight
        table.copy_(torch.randn(table.shape, generator=generator) * 0.25)
        language.norm.weight.fill_(0.2)
        for name, weight in language.layers.named_parameters():
            if name.endswith("proj.weight"):
                small = 0.1 if "o_proj" in name or "down_proj" in name else 1.0
                nn.init.normal_(weight, std=small * weight.shape[1] ** -0.5, generator=generator)
        basis = torch.linalg.qr(torch.randn(table.shape[1], table.shape[1], generator=generator))[0]
        for layers, scale in ((OWN_LAYERS, 0.15), (MATCH_LAYERS, 0.7)):
            for number, part in zip(layers, basis.chunk(len(layers)), strict=True):
                _carry(language.layers[number].self_attn, part, scale)
                if layers is MATCH_LAYERS:
                    _match(language.layers[number].self_attn, part, 2.0, fast=14)
