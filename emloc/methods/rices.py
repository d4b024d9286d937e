"""`rices`: the demonstrations that are most like the query, looked up for every query (RICES, arXiv 2109.05014).

The paper's retrieval baseline (public reference variant 12): no context is shared, each query is asked behind the few
demonstrations nearest to it, in full. Differences: the model's own embedding takes the place of CLIP's, so that texts
can be looked up too, and visual and question both count; the pool is the demonstrations that every other method gets,
where the reference looks through its whole demonstration split; their number follows from a budget of tokens.

An embedding is the mean of the last hidden layer, after its norm, over the turn up to where its answer begins; the
turn is read by itself, without the system turn. What all turns share says nothing, so the pool's mean is subtracted.
"""

import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn.functional import normalize

from emloc.allocation.budget import Budget
from emloc.answering import answer_rows, query_rows
from emloc.backbones.base import Backbone
from emloc.errors import UserError
from emloc.memory import Memory
from emloc.methods.base import Method
from emloc.methods.loop import Progress, condense
from emloc.methods.trace import Cost, OwnContext, Reply, Trace
from emloc.options import Count
from emloc.passes import prefill, run_rows
from emloc.prompt import Query
from emloc.ranking import likelihoods
from emloc.rows import Row, RowBatch, concatenate

_TOGETHER = 16  # turns that are embedded at once


@dataclass(frozen=True)
class Pool(Memory):
    """A memory without entries, and the demonstrations that queries' own contexts are made of."""

    rows: tuple[Row, ...] = ()
    embeddings: Tensor = field(default_factory=lambda: torch.empty(0, 0))  # (rows, C) float32

    def save(self, path: object) -> None:
        """UserError: there is nothing that could be read without the demonstrations."""
        raise UserError(
            f"Expected a compressed memory to write to {path}, but rices keeps the demonstrations themselves; leave "
            "save_memory out."
        )

    def ranked(self, embedding: Tensor) -> list[int]:
        """The demonstrations' numbers, the one most similar to the query's embedding (C,) first."""
        mean = self.embeddings.mean(0)
        similarity = normalize(self.embeddings - mean, dim=-1) @ normalize(embedding - mean, dim=-1)
        return similarity.argsort(descending=True, stable=True).tolist()


@dataclass(frozen=True, kw_only=True)
class RICES(Method):
    """A context for every query: the nearest demonstrations that a budget holds, nothing pruned.

    Parameters
    ----------
    budget
        Tokens that a query's context may have, the system turn included: a ratio of what all demonstrations have, a
        number, or `match:PATH/record.json`. It is never exceeded.
    shots_per_query
        At most this many demonstrations; None: as many as the budget holds.
    nearest
        Where the most similar one comes: `first` (the public reference's) or `last`, right before the query.
    """

    name: ClassVar[str] = "rices"
    foreseen: ClassVar[bool] = False
    budget: str | float = 0.2
    shots_per_query: Count | None = None
    nearest: Literal["first", "last"] = "first"

    def __post_init__(self) -> None:
        super().__post_init__()
        _ = self._budget  # a budget that cannot be read is refused now

    @torch.inference_mode()
    def trace_rows(self, backbone: Backbone, rows: Sequence[Row], *, progress: Progress | None = None) -> Trace:
        """The pool: every demonstration is embedded, none is in the memory."""
        begin, before = time.perf_counter(), backbone.layer_forwards
        nothing = condense(self, backbone, [], progress=progress)
        found, empty = embeddings(backbone, rows), nothing.memory
        pool = Pool(empty.layers, empty.offset, 0, empty.fingerprint, rows=tuple(rows), embeddings=found)
        cost = Cost(backbone.layer_forwards - before, time.perf_counter() - begin)
        return replace(nothing, memory=pool, deciding=cost)

    @torch.inference_mode()
    def answer(
        self, backbone: Backbone, queries: Sequence[Query], memory: Memory, *, max_new_tokens: int, batch_size: int
    ) -> list[Reply]:
        """As `Method.answer`; each query is asked by itself, behind its own demonstrations."""
        replies = []
        for query, own in zip(queries, self.contexts(backbone, queries, memory), strict=True):
            rows = query_rows(backbone, [query], own)
            (text,) = answer_rows(backbone, rows, own, max_new_tokens=max_new_tokens)
            replies.append(Reply(text, _whole(own)))
        return replies

    @torch.inference_mode()
    def choose(
        self, backbone: Backbone, queries: Sequence[Query], choices: Sequence[str], memory: Memory, *, batch_size: int
    ) -> list[Reply]:
        """As `Method.choose`; each query is asked by itself, behind its own demonstrations."""
        ids, replies = [backbone.answer_ids(choice) for choice in choices], []
        for query, own in zip(queries, self.contexts(backbone, queries, memory), strict=True):
            best = int(likelihoods(backbone, [query], ids, own).argmax())
            replies.append(Reply(choices[best], _whole(own)))
        return replies

    def contexts(self, backbone: Backbone, queries: Sequence[Query], memory: Memory) -> list[Memory]:
        """Every query's own memory; UserError if `memory` is not one that this method made."""
        if not isinstance(memory, Pool):
            raise UserError(
                "Expected the memory that rices made, which knows the demonstrations, but got another one; compress "
                "them with this method first."
            )
        numbers = [self.retrieved(backbone, memory, each) for each in embeddings(backbone, backbone.encode(queries))]
        return [_prefilled(backbone, [memory.rows[number] for number in chosen]) for chosen in numbers]

    def retrieved(self, backbone: Backbone, pool: Pool, embedding: Tensor) -> list[int]:
        """The numbers of the demonstrations that a query with this embedding (C,) is asked behind, in their order."""
        if not pool.rows:
            return []
        ranked, system = pool.ranked(embedding)[: self.shots_per_query], len(backbone.system_row())
        allowed = self._budget.resolve(system + sum(map(len, pool.rows)))
        lengths = itertools.accumulate((len(pool.rows[number]) for number in ranked), initial=system)
        chosen = [
            number
            for number, length in zip(ranked, itertools.islice(lengths, 1, None), strict=True)
            if length <= allowed
        ]
        return chosen if self.nearest == "first" else chosen[::-1]

    @cached_property
    def _budget(self) -> Budget:
        """`budget` as it was on construction: a record that it names is read once, even if the file changes later."""
        return Budget.parse(self.budget)


def embeddings(backbone: Backbone, rows: Sequence[Row]) -> Tensor:
    """(rows, C) float32, what each turn is about: see the file's head."""
    found = [torch.empty(0, backbone.text_config.hidden_size, device=backbone.device)]
    for start in range(0, len(rows), _TOGETHER):
        batch = RowBatch.stack([row.first(_asked(row)) for row in rows[start : start + _TOGETHER]])
        hidden = backbone.final_norm(run_rows(backbone, batch, backbone.empty_memory())).float()
        found.append((hidden * batch.real[..., None]).sum(1) / batch.lengths[:, None])
    return torch.cat(found)


def _asked(row: Row) -> int:
    """How many tokens come before the answer: as many in a query as in the demonstration that it is solved as."""
    answers = row.answers.nonzero()
    # A query's last token predicts the answer, which counts to the answer in a demonstration.
    return int(answers[0]) if len(answers) else len(row) - 1


def _prefilled(backbone: Backbone, rows: Sequence[Row]) -> Memory:
    """The full context of these demonstrations; without any, a memory of nothing."""
    empty = backbone.empty_memory()
    if not rows:
        return empty
    context = concatenate([backbone.system_row(), *rows])
    backbone.check_positions(context.span)
    chunk = prefill(backbone, context, empty)
    return empty.extend(chunk.layers, offset=chunk.offset, tokens=chunk.tokens)


def _whole(memory: Memory) -> OwnContext:
    """What is told of a context that nothing was pruned from: its divergence is 0."""
    return OwnContext(memory.tokens_seen, memory.lengths, 0.0)
