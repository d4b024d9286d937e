"""What a method is: demonstrations in, memory out, with a trace of what was kept and at what divergence."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from torch import Tensor

from emloc.backbones.base import Backbone
from emloc.errors import UserError
from emloc.memory import Memory
from emloc.passes import Chunk, prefill
from emloc.prompt import Demonstration, Query, TokenKind
from emloc.rows import Row, concatenate

Progress = Callable[[int, int], None]  # (layer steps done, layer steps in all)


@dataclass(frozen=True)
class Candidate:
    """One trial of the search: keep `tokens` of the chunk per KV head, at which divergence.

    `layer` is the lowest of those that share the decision.
    """

    layer: int
    ratio: float
    tokens: int
    js: float  # nats
    accepted: bool


@dataclass(frozen=True)
class ChunkTrace:
    """What happened to one chunk. Token counts are per KV head (means over heads where heads differ)."""

    tokens: int  # raw length
    demonstrations: int
    js: float  # nats, the chunk's final state against its own teacher
    layer_js: tuple[float, ...]  # nats per layer: the state after that layer's decision; empty where not searched
    candidates: tuple[Candidate, ...]  # in the order tried


@dataclass(frozen=True)
class LayerCount:
    """Tokens of one chunk that one layer keeps, as means over KV heads."""

    chunk: int
    layer: int
    tokens_before: int
    tokens_kept: float
    image_kept: float
    question_kept: float
    answer_kept: float


@dataclass(frozen=True)
class Compression:
    """A memory and how it came about."""

    memory: Memory
    chunks: tuple[ChunkTrace, ...]
    raw: Row  # the whole context as it went in, without its embeddings
    owners: Tensor  # (tokens seen,) int64, the demonstration that a raw token is of; -1: the system turn
    budget_tokens: float | None = None  # mean tokens per layer that a budgeted method aimed at

    @property
    def before(self) -> int:
        """Raw tokens of a context that was in memory before; they are not part of `raw`, `owners` and `chunks`."""
        return self.memory.tokens_seen - len(self.raw)

    def layer_counts(self) -> list[LayerCount]:
        """One entry per chunk and layer, counted from the memory itself."""
        counts, start = [], self.before
        for number, chunk in enumerate(self.chunks):
            counts += [self._count(number, layer, start, chunk.tokens) for layer in range(len(self.memory.layers))]
            start += chunk.tokens
        return counts

    def _count(self, chunk: int, layer: int, start: int, tokens: int) -> LayerCount:
        index = self.memory.layers[layer].index.long()
        inside = (index >= start) & (index < start + tokens)
        kinds = self.raw.kinds[index[inside] - self.before]
        heads = index.shape[0]
        by_kind = {kind: (kinds == kind).sum().item() / heads for kind in TokenKind}
        return LayerCount(
            chunk,
            layer,
            tokens,
            inside.sum().item() / heads,
            by_kind[TokenKind.IMAGE],
            by_kind[TokenKind.QUESTION],
            by_kind[TokenKind.ANSWER],
        )


@dataclass(frozen=True)
class OwnContext:
    """A context that was condensed for one query alone. Tokens are cache entries per KV head."""

    tokens_full: int
    tokens_kept_per_layer: list[int]
    js: float  # nats, of the worst chunk


@dataclass(frozen=True)
class Reply:
    """An answer. `own` is the context it was read from, None if that is the memory which all queries share."""

    text: str
    own: OwnContext | None = None


@dataclass(frozen=True)
class Pruning:
    """A decision about one chunk: which tokens of each layer stay (None: all), and what was measured."""

    kept: Sequence[Tensor | None]  # per layer (H_kv, K)
    js: float
    layer_js: tuple[float, ...] = ()
    candidates: tuple[Candidate, ...] = ()


@dataclass
class Context:
    """A context under construction: what later steps of a method may need of the earlier ones."""

    rows: list[list[Row]]  # demonstrations of every chunk
    memory: Memory
    tokens: int  # raw length of the whole context, system turn included
    chunks: list[ChunkTrace] = field(default_factory=list)
    raw: list[Row] = field(default_factory=list)  # of every chunk, without embeddings
    tail: list[Tensor] = field(default_factory=list)  # per layer, queries (H_q, W, D) of the context's last tokens


@dataclass(frozen=True, kw_only=True)
class Method(ABC):
    """Turns demonstrations into a memory, chunk by chunk.

    Parameters
    ----------
    chunk_size
        Demonstrations per chunk. The last chunk takes what is left, even a single one.
    """

    name: ClassVar[str]
    chunk_size: int = 20

    def __post_init__(self) -> None:
        if self.chunk_size < 1:
            raise UserError(f"Expected chunk_size of at least 1 demonstration, but got {self.chunk_size}.")

    @property
    def tail_tokens(self) -> int:
        """How many of the context's last tokens the method wants the queries of."""
        return 0

    def compress(
        self, backbone: Backbone, demonstrations: Sequence[Demonstration], *, progress: Progress | None = None
    ) -> Memory:
        """Adapt to a task: the memory that its demonstrations leave."""
        return self.trace(backbone, demonstrations, progress=progress).memory

    def answer(
        self, backbone: Backbone, queries: Sequence[Query], memory: Memory, *, max_new_tokens: int, batch_size: int
    ) -> list[Reply]:
        """Greedy answers to queries on the memory that `compress` made, in the queries' order."""
        texts = backbone.answer(queries, memory, max_new_tokens=max_new_tokens, batch_size=batch_size)
        return [Reply(text) for text in texts]

    @torch.inference_mode()
    def trace(
        self, backbone: Backbone, demonstrations: Sequence[Demonstration], *, progress: Progress | None = None
    ) -> Compression:
        """As `compress`, with the trace of every decision."""
        rows = backbone.encode(demonstrations)
        return self.trace_rows(backbone, rows, progress=progress)

    def trace_rows(self, backbone: Backbone, rows: Sequence[Row], *, progress: Progress | None = None) -> Compression:
        """As `trace`, from demonstrations that are encoded already."""
        system = backbone.system_row()
        chunks = [list(rows[at : at + self.chunk_size]) for at in range(0, len(rows), self.chunk_size)]
        total = len(system) + sum(len(row) for row in rows)
        context = Context(chunks, backbone.empty_memory(), total if rows else 0)
        self.check(context)
        ticks = layer_steps(progress, len(chunks) * backbone.n_layers)
        for number, demonstrations in enumerate(chunks):
            opening = [system] if number == 0 else []
            chunk = prefill(backbone, concatenate([*opening, *demonstrations]), context.memory, tail=self.tail_tokens)
            pruning = self.prune(backbone, context, chunk, demonstrations, lambda: next(ticks))
            self._store(context, chunk, pruning, len(demonstrations))
        return self.finish(backbone, context)

    def check(self, context: Context) -> None:  # noqa: B027 (an optional step, not a forgotten one)
        """Refuse a context that the method cannot handle, before any work is done."""

    @abstractmethod
    def prune(
        self, backbone: Backbone, context: Context, chunk: Chunk, rows: Sequence[Row], tick: Callable[[], None]
    ) -> Pruning:
        """Decide what of a chunk to keep; call `tick` once per layer."""

    def finish(self, backbone: Backbone, context: Context) -> Compression:
        """The result, once every chunk is in memory; methods that look at the whole context act here."""
        raw = concatenate(context.raw) if context.raw else backbone.system_row().first(0)
        return Compression(context.memory, tuple(context.chunks), raw, _owners(context).to(raw.ids.device))

    def _store(self, context: Context, chunk: Chunk, pruning: Pruning, demonstrations: int) -> None:
        layers = [
            layer if kept is None else layer.select(kept)
            for layer, kept in zip(chunk.layers, pruning.kept, strict=True)
        ]
        context.memory = context.memory.extend(layers, offset=chunk.offset, tokens=chunk.tokens)
        context.raw.append(replace(chunk.row, embeds=chunk.row.embeds.new_empty(len(chunk.row), 0)))
        context.chunks.append(
            ChunkTrace(chunk.tokens, demonstrations, pruning.js, pruning.layer_js, pruning.candidates)
        )
        if self.tail_tokens:
            older = context.tail or [queries[:, :0] for queries in chunk.tail]
            joined = [torch.cat(pair, dim=1) for pair in zip(older, chunk.tail, strict=True)]
            context.tail = [queries[:, -self.tail_tokens :] for queries in joined]


def _owners(context: Context) -> Tensor:
    """Which demonstration every raw token is of, the system turn's -1."""
    lengths = [len(row) for rows in context.rows for row in rows]
    lengths = [context.tokens - sum(lengths), *lengths]
    return torch.arange(-1, len(lengths) - 1).repeat_interleave(torch.tensor(lengths))


def keep_all(backbone: Backbone, tick: Callable[[], None]) -> Pruning:
    """The decision to prune nothing; its divergence is zero because the chunk is its own teacher."""
    for _ in range(backbone.n_layers):
        tick()
    return Pruning([None] * backbone.n_layers, js=0.0)


def layer_steps(progress: Progress | None, total: int) -> Iterator[None]:
    """Report one layer step per `next`."""
    for done in range(1, total + 1):
        if progress is not None:
            progress(done, total)
        yield
