"""Greedy answers of a batch of queries on one shared memory."""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from emloc.attention import Attn, LayerAttention, attend
from emloc.memory import Memory
from emloc.prompt import Demonstration, Query
from emloc.rows import Row, RowBatch, concatenate


class Answerer(Protocol):
    """What answering needs of a model (every `Backbone` has it)."""

    attn: Attn

    @property
    def end_ids(self) -> frozenset[int]:
        """Tokens that end an answer."""

    def encode(self, items: Sequence[Demonstration | Query]) -> list[Row]:
        """One row per turn."""

    def system_row(self) -> Row:
        """The system turn."""

    def empty_memory(self) -> Memory:
        """A memory of nothing."""

    def check_positions(self, count: int) -> None:
        """UserError if a context with its query is longer than the model was made for."""

    def embed(self, ids: Tensor) -> Tensor:
        """Token embeddings (T, C) of ids (T,)."""

    def run_layers(
        self, hidden: Tensor, positions: Tensor, attention: LayerAttention, *, added: Tensor | None = None
    ) -> Tensor:
        """Hidden states (B, T, C) before the final norm, from the input of the lowest layer."""

    def logits(self, hidden: Tensor) -> Tensor:
        """Float32 logits (N, V) of hidden states (N, C)."""

    def decode(self, ids: Sequence[int]) -> str:
        """The text of an answer's tokens."""


def query_rows(backbone: Answerer, queries: Sequence[Query], memory: Memory) -> list[Row]:
    """Encoded queries; without a context in front each opens with the system turn, as in the reference."""
    rows = backbone.encode(queries)
    if memory.tokens_seen:
        return rows
    system = backbone.system_row()
    return [concatenate([system, row]) for row in rows]


def answer_batch(
    backbone: Answerer, queries: Sequence[Query], memory: Memory | None = None, *, max_new_tokens: int = 32
) -> list[str]:
    """Greedy answers of one batch of queries (see `Backbone.answer`)."""
    memory = memory or backbone.empty_memory()
    return answer_rows(backbone, query_rows(backbone, queries, memory), memory, max_new_tokens=max_new_tokens)


def answer_rows(backbone: Answerer, rows: Sequence[Row], memory: Memory, *, max_new_tokens: int) -> list[str]:
    """Greedy answers of encoded queries, run behind the memory as one batch."""
    tokens = generate(backbone, rows, memory, max_new_tokens=max_new_tokens)
    return [backbone.decode(ids) for ids in tokens]


@torch.inference_mode()
def generate(backbone: Answerer, rows: Sequence[Row], memory: Memory, *, max_new_tokens: int) -> list[list[int]]:
    """Greedy token ids of every row, without the token that ended it."""
    decoder = QueryRun(backbone, rows, memory)
    produced: list[list[int]] = [[] for _ in rows]
    open_rows = set(range(len(rows)))
    hidden = decoder.start()
    for step in range(max_new_tokens):
        chosen = backbone.logits(hidden).argmax(-1)
        for number, token in enumerate(chosen.tolist()):
            if number in open_rows and token in backbone.end_ids:
                open_rows.discard(number)
            elif number in open_rows:
                produced[number].append(token)
        if not open_rows or step + 1 == max_new_tokens:
            break
        hidden = decoder.step(chosen)
    return produced


class QueryRun:
    """Own keys and values of the batch's rows, grown by one column per generated token."""

    def __init__(self, backbone: Answerer, rows: Sequence[Row], memory: Memory) -> None:
        self._backbone = backbone
        self._memory = memory
        self._batch = RowBatch.stack(rows, offset=memory.offset)
        self._own: list[tuple[Tensor, Tensor]] = []
        device = self._batch.lengths.device
        columns = torch.arange(self._batch.embeds.shape[1], device=device)
        self._visible = columns < self._batch.lengths[:, None]  # (B, T)
        ends = [row.span + memory.offset for row in rows]
        backbone.check_positions(max(ends))
        self._next = torch.tensor(ends, device=device)  # (B,)

    def start(self) -> Tensor:
        """Run the rows; hidden state (B, C) of every row's last token."""

        def attention(layer: int, q: Tensor, k: Tensor, v: Tensor, scaling: float) -> Tensor:
            self._own.append((k, v))
            return attend(
                q, k, v, scaling=scaling, attn=self._backbone.attn, shared=[self._memory.layers[layer].key_values]
            )

        batch = self._batch
        return batch.last(self._backbone.run_layers(batch.embeds, batch.positions, attention, added=batch.added))

    def step(self, tokens: Tensor) -> Tensor:
        """Append one token (B,) to every row; hidden state (B, C)."""
        self._visible = torch.cat([self._visible, torch.ones_like(self._visible[:, :1])], dim=1)
        mask = self._visible[:, None]

        def attention(layer: int, q: Tensor, k: Tensor, v: Tensor, scaling: float) -> Tensor:
            own = tuple(torch.cat(pair, dim=2) for pair in zip(self._own[layer], (k, v), strict=True))
            self._own[layer] = (own[0], own[1])
            shared = [self._memory.layers[layer].key_values]
            return attend(q, *self._own[layer], scaling=scaling, attn=self._backbone.attn, shared=shared, own_mask=mask)

        embeds = self._backbone.embed(tokens)[:, None]
        positions = self._next[None, :, None].expand(self._batch.positions.shape[0], -1, 1)
        self._next = self._next + 1
        return self._backbone.run_layers(embeds, positions, attention)[:, 0]

    def peek(self, tokens: Tensor) -> Tensor:
        """Hidden states (B, N, C) of the same N tokens (N,) behind every row; the rows stay as they are."""
        batch, count = len(self._next), len(tokens)
        causal = torch.ones(count, count, dtype=torch.bool, device=tokens.device).tril()
        mask = torch.cat([self._visible[:, None].expand(-1, count, -1), causal.expand(batch, -1, -1)], dim=-1)

        def attention(layer: int, q: Tensor, k: Tensor, v: Tensor, scaling: float) -> Tensor:
            keys, values = (torch.cat(pair, dim=2) for pair in zip(self._own[layer], (k, v), strict=True))
            shared = [self._memory.layers[layer].key_values]
            return attend(q, keys, values, scaling=scaling, attn=self._backbone.attn, shared=shared, own_mask=mask)

        steps = self._next[:, None] + torch.arange(count, device=tokens.device)
        positions = steps.expand(self._batch.positions.shape[0], -1, -1)
        return self._backbone.run_layers(self._backbone.embed(tokens).expand(batch, -1, -1), positions, attention)
