"""Token sequences ready for the decoder: one `Row`, or a `RowBatch` of them padded on the right."""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor

from emloc.prompt import TokenKind


@dataclass(frozen=True)
class Row:
    """A tokenised and embedded turn, its positions counted from 0; only in a part of a video some are lower (`split`).

    Visual features are already in `embeds`, so a demonstration's image is encoded once, however often it is run.
    """

    ids: Tensor  # (T,) int64
    kinds: Tensor  # (T,) uint8, see TokenKind
    positions: Tensor  # (P, T) int64, P = position axes: 3 with mRoPE, otherwise 1
    embeds: Tensor  # (T, C)
    added: Tensor | None = None  # (K, T, C), what is added behind each of the lowest K layers (Qwen3-VL's deepstack)

    def __len__(self) -> int:
        return self.ids.shape[0]

    def first(self, count: int) -> "Row":
        """The row's first `count` tokens."""
        return self.part(0, count)

    def part(self, start: int, stop: int) -> "Row":
        """The row's tokens from `start` to before `stop`, at their positions in the row."""
        at = slice(start, stop)
        added = None if self.added is None else self.added[:, at]
        return Row(self.ids[at], self.kinds[at], self.positions[:, at], self.embeds[at], added)

    @property
    def answers(self) -> Tensor:
        """(T,) bool: the answer positions."""
        return self.kinds == TokenKind.ANSWER

    @property
    def span(self) -> int:
        """Positions taken: the next turn starts here. Smaller than the token count where mRoPE folds an image."""
        return int(self.positions.max()) + 1 if len(self) else 0


def concatenate(rows: Sequence[Row]) -> Row:
    """One row of several turns; positions run on exactly as if the turns had been tokenised together."""
    starts = [0]
    for row in rows[:-1]:
        starts.append(starts[-1] + row.span)
    positions = [row.positions + start for row, start in zip(rows, starts, strict=True)]
    return Row(
        torch.cat([row.ids for row in rows]),
        torch.cat([row.kinds for row in rows]),
        torch.cat(positions, dim=1),
        torch.cat([row.embeds for row in rows]),
        None if rows[0].added is None else torch.cat([row.added for row in rows if row.added is not None], dim=1),
    )


def balanced(rows: Sequence[Row], count: int, *, seed: int) -> list[Row]:
    """`count` of the rows in their order, all if there are no more: no answer twice before every answer is there once.

    Which ones that are is drawn, the same at every call; answers are told apart by their tokens.
    """
    drawn, seen, turns = list(range(len(rows))), Counter[tuple[int, ...]](), {}
    random.Random(seed).shuffle(drawn)
    for number in drawn:
        answer = tuple(rows[number].ids[rows[number].answers].tolist())
        turns[number] = seen[answer]  # the first rows of all answers come before the second of any
        seen[answer] += 1
    return [rows[number] for number in sorted(sorted(drawn, key=turns.__getitem__)[:count])]


def split(row: Row, cuts: Sequence[int]) -> list[Row]:
    """The row cut before the tokens `cuts`, ascending; `concatenate` of the parts gives the row again.

    Each part counts its positions from where the part before it ends. Where a cut goes through a video, the later part
    has positions below 0: its rows and columns are those of the earlier one, only its time has advanced.
    """
    parts, start = [], 0
    for begin, end in pairwise([0, *cuts, len(row)]):
        part = row.part(begin, end)
        part = replace(part, positions=part.positions - start)
        parts.append(part)
        start += part.span
    return parts


@dataclass(frozen=True)
class RowBatch:
    """Rows padded on the right: behind a causal mask no real token ever sees the padding."""

    embeds: Tensor  # (B, T, C)
    positions: Tensor  # (P, B, T)
    lengths: Tensor  # (B,) int64
    answers: Tensor  # (B, T) bool, False on padding
    added: Tensor | None = None  # (K, B, T, C), see `Row`

    @classmethod
    def stack(cls, rows: Sequence[Row], *, offset: int = 0) -> "RowBatch":
        """Pad and stack; every row is placed at positions from `offset` on."""
        embeds = torch.nn.utils.rnn.pad_sequence([row.embeds for row in rows], batch_first=True)
        positions = [row.positions.T + offset for row in rows]
        answers = torch.nn.utils.rnn.pad_sequence([row.answers for row in rows], batch_first=True)
        lengths = torch.tensor([len(row) for row in rows], device=embeds.device)
        stacked = torch.nn.utils.rnn.pad_sequence(positions, batch_first=True)
        return cls(embeds, stacked.permute(2, 0, 1), lengths, answers, cls._stack_added(rows))

    @staticmethod
    def _stack_added(rows: Sequence[Row]) -> Tensor | None:
        added = [row.added.transpose(0, 1) for row in rows if row.added is not None]
        return torch.nn.utils.rnn.pad_sequence(added, batch_first=True).permute(2, 0, 1, 3) if added else None

    @property
    def real(self) -> Tensor:
        """(B, T) bool: tokens of the rows, not padding."""
        return torch.arange(self.embeds.shape[1], device=self.lengths.device) < self.lengths[:, None]

    def last(self, hidden: Tensor) -> Tensor:
        """The vectors (B, C) of every row's last real token, out of (B, T, C)."""
        return hidden[torch.arange(len(self.lengths), device=hidden.device), self.lengths - 1]
