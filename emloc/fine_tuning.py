"""Training adapters on solved turns: what fine-tuning on the demonstrations is."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence

from emloc.attention import attend
from emloc.backbones.base import Backbone
from emloc.rows import Row, RowBatch

_WARMUP = 0.1  # of all steps
_LARGEST_NORM = 1.0  # of the gradient


@dataclass(frozen=True)
class Schedule:
    """AdamW without weight decay; the learning rate rises over a tenth of all steps, then falls as half a cosine."""

    epochs: int
    learning_rate: float
    batch_size: int
    seed: int  # of the order, which every epoch shuffles

    def steps(self, rows: int) -> int:
        """Optimiser steps in all."""
        return self.epochs * math.ceil(rows / self.batch_size)

    def batches(self, rows: int) -> Iterator[list[int]]:
        """The numbers of the rows of every step."""
        generator = torch.Generator().manual_seed(self.seed)
        for _ in range(self.epochs):
            yield from map(Tensor.tolist, torch.randperm(rows, generator=generator).split(self.batch_size))

    def factor(self, step: int, steps: int) -> float:
        """The part of the learning rate that a step takes, counted from 0."""
        warmup = math.ceil(_WARMUP * steps)
        if step < warmup:
            return (step + 1) / warmup
        return (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup))) / 2


def train(
    backbone: Backbone,
    rows: Sequence[Row],
    weights: Sequence[Tensor],
    schedule: Schedule,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> list[float]:
    """Change `weights`, which the backbone's layers use, until rows are answered as they are; the loss at every step.

    `progress` is told (layer steps done, layer steps in all): of a step of the optimiser as many as there are layers.
    """
    steps = schedule.steps(len(rows))
    optimiser = torch.optim.AdamW(weights, lr=schedule.learning_rate, weight_decay=0.0)
    rate = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: schedule.factor(step, steps))
    losses = []
    for numbers in schedule.batches(len(rows)):
        loss = answer_loss(backbone, [rows[number] for number in numbers])
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, _LARGEST_NORM)
        optimiser.step()
        rate.step()
        losses.append(loss.item())
        if progress is not None:
            progress(len(losses) * backbone.n_layers, steps * backbone.n_layers)
    return losses


def answer_loss(backbone: Backbone, rows: Sequence[Row]) -> Tensor:
    """Mean cross-entropy (nats) of the rows' answer tokens and the end of their turns; no row sees another."""

    def attention(_layer: int, q: Tensor, k: Tensor, v: Tensor, scaling: float) -> Tensor:
        return attend(q, k, v, scaling=scaling, attn=backbone.attn)

    batch = RowBatch.stack(rows)
    hidden = backbone.forward_layers(batch.embeds, batch.positions, attention, added=batch.added)
    # The first answer position only predicts; what follows the last one is the format's, not the answer's.
    predicting = batch.answers[:, :-1] & batch.answers[:, 1:]
    following = pad_sequence([row.ids for row in rows], batch_first=True)[:, 1:]
    return cross_entropy(backbone.forward_logits(hidden[:, :-1][predicting]), following[predicting])
