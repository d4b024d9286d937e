"""Likelihoods of given answers on a memory: how a model picks one of a few classes without being free to say others."""

from collections.abc import Sequence

import torch
from torch import Tensor

from emloc.answering import Answerer, query_rows
from emloc.attention import attend
from emloc.memory import Memory
from emloc.prompt import Query
from emloc.rows import Row, RowBatch


def likelihoods(
    backbone: Answerer,
    queries: Sequence[Query],
    choices: Sequence[Sequence[int]],
    memory: Memory | None = None,
    *,
    batch_size: int = 16,
) -> Tensor:
    """Log-likelihood (Q, K) in nats of each of K answers to each of Q queries, float32.

    Parameters
    ----------
    choices
        The token ids of every answer, with the tokens that end it: "Niger" is then no beginning of "Nigeria".

    A query is run once, and every answer on top of it; answers of one query never see each other.
    """
    memory = memory or backbone.empty_memory()
    found = []
    for start in range(0, len(queries), batch_size):
        rows = query_rows(backbone, queries[start : start + batch_size], memory)
        found.append(_Scorer(backbone, rows, memory).all(choices))
    return torch.cat(found) if found else torch.empty(0, len(choices))


class _Scorer:
    """A batch of queries that have been run: their own keys and values per layer, and what comes next."""

    @torch.inference_mode()
    def __init__(self, backbone: Answerer, rows: Sequence[Row], memory: Memory) -> None:
        self._backbone, self._memory = backbone, memory
        self._batch = RowBatch.stack(rows, offset=memory.offset)
        self._own: list[tuple[Tensor, Tensor]] = []
        device = self._batch.lengths.device
        columns = torch.arange(self._batch.embeds.shape[1], device=device)
        self._visible = columns < self._batch.lengths[:, None]  # (B, T): a row's own tokens, not its padding
        self._next = torch.tensor([row.span + memory.offset for row in rows], device=device)  # (B,)
        self._first = self._run()

    def all(self, choices: Sequence[Sequence[int]]) -> Tensor:
        """(B, K)."""
        return torch.stack([self._one(list(ids)) for ids in choices], dim=1).cpu()

    def _run(self) -> Tensor:
        """Run the queries; log-probabilities (B, V) of what follows each."""

        def attention(layer: int, q: Tensor, k: Tensor, v: Tensor, scaling: float) -> Tensor:
            self._own.append((k, v))
            return attend(q, k, v, scaling=scaling, shared=[self._memory.layers[layer].key_values])

        hidden = self._backbone.run_layers(self._batch.embeds, self._batch.positions, attention)
        return self._backbone.logits(self._batch.last(hidden)).log_softmax(-1)

    @torch.inference_mode()
    def _one(self, ids: list[int]) -> Tensor:
        """(B,): the sum of the log-probabilities of these tokens behind every query."""
        total = self._first[:, ids[0]]
        if len(ids) == 1:
            return total
        tokens = torch.tensor(ids, device=total.device)
        logits = self._backbone.logits(self._continued(tokens[:-1]).flatten(0, 1)).log_softmax(-1)
        following = logits.view(len(total), len(ids) - 1, -1)
        return total + following.gather(-1, tokens[1:].expand(len(total), -1)[..., None]).sum((1, 2))

    def _continued(self, tokens: Tensor) -> Tensor:
        """Hidden states (B, N, C) of N tokens behind every query; what the queries left is not changed."""
        batch, count = len(self._next), len(tokens)
        causal = torch.ones(count, count, dtype=torch.bool, device=tokens.device).tril()
        mask = torch.cat([self._visible[:, None].expand(-1, count, -1), causal.expand(batch, -1, -1)], dim=-1)

        def attention(layer: int, q: Tensor, k: Tensor, v: Tensor, scaling: float) -> Tensor:
            keys, values = (torch.cat(pair, dim=2) for pair in zip(self._own[layer], (k, v), strict=True))
            shared = [self._memory.layers[layer].key_values]
            return attend(q, keys, values, scaling=scaling, shared=shared, own_mask=mask)

        embeds = self._backbone.embed(tokens).expand(batch, -1, -1)
        steps = self._next[:, None] + torch.arange(count, device=tokens.device)
        positions = steps.expand(self._batch.positions.shape[0], -1, -1)
        return self._backbone.run_layers(embeds, positions, attention)
