"""Episodes for the text model: classes and labels drawn anew, in the chat text that the framework renders.

Shapes: B episodes, D demonstrations, L tokens per demonstration, T tokens per episode.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from experiments.miniature.images import Pool, dress, patches
from experiments.miniature.text import Layout
from experiments.miniature.vocabulary import QUESTIONS, SYSTEM, label_ids

SIDE = 4  # visual tokens per side of an image


@dataclass(frozen=True)
class Batch:
    """Episodes that share layout and question."""

    layout: Layout
    ids: Tensor  # int64 (B, T)
    positions: Tensor  # int64 (3, B, T)
    classes: Tensor  # int64 (B, D): class within the episode
    labels: Tensor  # int64 (B, D): label token ids
    images: Tensor  # float32 (B * D, 64, 96): patches
    source: Tensor  # int64 (B, D): the demonstration (of this episode) whose image is shown; another one for duplicates

    def to(self, device: torch.device) -> Batch:
        """The same batch with its tensors on `device`."""
        return Batch(self.layout, *(getattr(self, f.name).to(device) for f in fields(self)[1:]))

    @property
    def seen(self) -> Tensor:
        """Demonstrations whose class occurred before, bool (B, D)."""
        return _earlier_same(self.classes).any(-1)


def _earlier_same(classes: Tensor) -> Tensor:
    """(B, D) -> bool (B, D, D): [b, i, j] when j < i and both are of the same class."""
    return (classes[:, :, None] == classes[:, None, :]).tril(-1)


def _chance(generator: torch.Generator) -> float:
    return float(torch.rand((), generator=generator))


class Writer:
    """Turns classes into token ids and positions with the embedded tokenizer."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self.labels = torch.tensor(label_ids(tokenizer))
        self.words = len(tokenizer)
        self._before = self._encode(tokenizer, "<|im_start|>user\n<|vision_start|>")
        self._pad = int(tokenizer.convert_tokens_to_ids("<|image_pad|>"))
        self._after = self._encode(tokenizer, "<|im_end|>\n<|im_start|>assistant\n")
        self._vision_end = int(tokenizer.convert_tokens_to_ids("<|vision_end|>"))
        self._close = self._encode(tokenizer, "<|im_end|>\n")
        self.system = torch.tensor(self._encode(tokenizer, f"<|im_start|>system\n{SYSTEM}<|im_end|>\n"))
        self._questions = [self._encode(tokenizer, text) for text in QUESTIONS]
        self._plain = [i for i in range(self.words) if i not in set(tokenizer.all_special_ids)]

    @staticmethod
    def _encode(tokenizer: PreTrainedTokenizerFast, text: str) -> list[int]:
        return list(tokenizer(text)["input_ids"])

    def question(self, generator: torch.Generator, longest: int) -> list[int]:
        """Mostly the default question, often another phrasing, sometimes 1 to `longest` random tokens."""
        chance = _chance(generator)
        if chance < 0.5:
            return self._questions[0]
        if chance < 0.8:
            return self._questions[int(torch.randint(len(self._questions), (), generator=generator))]
        count = int(torch.randint(1, longest + 1, (), generator=generator))
        return [self._plain[int(i)] for i in torch.randint(len(self._plain), (count,), generator=generator)]

    def demonstration(self, question: list[int], side: int = SIDE) -> tuple[Tensor, Layout]:
        """Token ids of one demonstration with label 0 as a placeholder, (L,), and its layout (of one).

        Its image takes `side` x `side` tokens (fewer than `SIDE` for the shortened text of early lessons).
        """
        visual = side * side
        head = [*self._before, *[self._pad] * visual, self._vision_end, *question, *self._after]
        ids = torch.tensor([*head, 0, *self._close])
        image = slice(len(self._before), len(self._before) + visual)
        return ids, Layout(1, len(ids), image, len(head) - 1)


def demonstration_positions(layout: Layout) -> Tensor:
    """mRoPE positions of one demonstration from 0 on, (3, L): an image advances them by its tokens a side."""
    start, stop = layout.image.start, layout.image.stop
    side = math.isqrt(stop - start)
    text = torch.arange(layout.length)
    positions = torch.where(text < stop, text, text - side * side + side).expand(3, -1).clone()
    cell = torch.arange(side * side)
    positions[:, start:stop] = start + torch.stack((torch.zeros_like(cell), cell // side, cell % side))
    return positions


def starts(count: int, span: int, episodes: int, reach: int, generator: torch.Generator) -> Tensor:
    """First position of each demonstration, (B, D): one after the other, or (two thirds of the batches) with random
    gaps, so that an episode covers up to `reach` positions."""
    steady = (torch.arange(count) * span).expand(episodes, -1)
    if _chance(generator) < 0.34:
        return steady
    room = max(0, reach - count * span) * torch.rand(episodes, 1, generator=generator)
    return steady + (torch.rand(episodes, count, generator=generator).sort(1).values * room).long()


def draw_classes(episodes: int, ways: int, count: int, generator: torch.Generator) -> Tensor:
    """Class numbers (B, D): balanced and shuffled, or (half of the batches) drawn independently."""
    if _chance(generator) < 0.5:
        return torch.randint(ways, (episodes, count), generator=generator)
    order = torch.rand(episodes, count, generator=generator).argsort(1)
    return (torch.arange(count) % ways).expand(episodes, -1).gather(1, order)


def draw_source(classes: Tensor, duplicates: float, generator: torch.Generator) -> Tensor:
    """Whose image each demonstration shows, (B, D): its own or, with chance `duplicates`, an earlier one's."""
    same = _earlier_same(classes)
    choice = (torch.rand(same.shape, generator=generator) * same).argmax(-1)
    copy = same.any(-1) & (torch.rand(classes.shape, generator=generator) < duplicates)
    own = torch.arange(classes.shape[1]).expand_as(classes)
    source = torch.where(copy, choice, own)
    for _ in range(8):  # an earlier one may itself show an earlier one's image
        source = source.gather(1, source)
    return source


def make_batch(
    pool: Pool, writer: Writer, generator: torch.Generator, *,
    ways: int, count: int, episodes: int, duplicates: float, reach: int, system: bool, side: int = SIDE,
    longest: int = 10,
) -> Batch:  # fmt: skip
    """`episodes` episodes of `count` demonstrations of `ways` classes; without question when `side` < `SIDE`."""
    classes = draw_classes(episodes, ways, count, generator)
    kinds = torch.stack([torch.randperm(len(pool), generator=generator)[:ways] for _ in range(episodes)])
    words = torch.stack([writer.labels[torch.randperm(len(writer.labels), generator=generator)[:ways]] for _ in kinds])
    drawings = pool.images[pool.draw(kinds.gather(1, classes), generator)].float()
    dressed = torch.cat([dress(images, generator) for images in drawings])
    labels = words.gather(1, classes)
    one, single = writer.demonstration(writer.question(generator, longest) if side == SIDE else [], side)
    prefix = len(writer.system) if system else 0
    layout = Layout(count, single.length, single.image, single.answer, prefix)
    ids = one.repeat(episodes, count, 1)
    ids[:, :, layout.answer + 1] = labels
    inside = demonstration_positions(single)
    first = prefix + starts(count, int(inside.max()) + 1, episodes, reach, generator)
    positions = (first[None, :, :, None] + inside[:, None, None]).flatten(2)
    flat = ids.flatten(1)
    if system:
        flat = torch.cat((writer.system.expand(episodes, -1), flat), 1)
        positions = torch.cat((torch.arange(prefix).expand(3, episodes, -1), positions), 2)
    source = draw_source(classes, duplicates, generator)
    return Batch(layout, flat, positions, classes, labels, patches(dressed), source)
