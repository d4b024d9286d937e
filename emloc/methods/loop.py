"""The one chunk loop: chunks in, memory out. It measures what methods decide.

For every chunk: prefill it over the memory so far, let the method decide what stays, measure the divergence of that
final state, append. A method whose importance looks at the whole context decides once, after the last chunk.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from emloc.allocation.base import Decision, Share
from emloc.backbones.base import Backbone
from emloc.importance.base import Scope
from emloc.memory import Memory
from emloc.methods.trace import ChunkTrace, Cost, Trace
from emloc.passes import Chunk, prefill, rows_divergence
from emloc.region import Measure, Probes, Region
from emloc.rows import Row, concatenate

Progress = Callable[[int, int], None]  # (layer steps done, layer steps in all)


@dataclass(frozen=True)
class ChunkInput:
    """A chunk to be: the turns it is made of, the demonstration each token is of (-1: none), and what probes it."""

    turns: Sequence[Row]
    owners: Tensor  # (T,) int64
    probes: Probes
    demonstrations: int = 0

    def __len__(self) -> int:
        return sum(map(len, self.turns))


class Decider(Protocol):
    """What the loop asks of a method (every `Method` answers it)."""

    @property
    def scope(self) -> Scope:
        """Whether chunks are decided one by one, or the context as a whole."""

    @property
    def tail_tokens(self) -> int:
        """How many of the context's last tokens it wants the queries of."""

    @property
    def reserved(self) -> int:
        """How many tokens of a region stay at any budget."""

    def check(self, total: int) -> None:
        """Refuse a context of so many tokens before any work is done: UserError."""

    def decide(self, region: Region, share: Share, measure: Measure) -> Decision:
        """Decide which tokens of the region stay."""


def condense(
    decider: Decider,
    backbone: Backbone,
    inputs: Sequence[ChunkInput],
    memory: Memory | None = None,
    *,
    progress: Progress | None = None,
) -> Trace:
    """Run the loop over all chunks, behind `memory`, which stays as it is."""
    return _Loop(decider, backbone, inputs, memory or backbone.empty_memory(), progress).run()


class _Loop:
    """The context under construction."""

    def __init__(
        self,
        decider: Decider,
        backbone: Backbone,
        inputs: Sequence[ChunkInput],
        memory: Memory,
        progress: Progress | None,
    ) -> None:
        self._decider, self._backbone, self._inputs = decider, backbone, inputs
        self._before = self._memory = memory
        self._total = sum(map(len, inputs))
        self._progress = _Steps(progress, len(inputs) * backbone.n_layers)
        self._chunks: list[ChunkTrace] = []
        self._tail: list[Tensor] = []  # per layer, queries (H_q, W, D) of the context's last tokens
        self._measuring = Cost()
        self._earlier: Decision | None = None

    def run(self) -> Trace:
        """All chunks, and what the deciding and the measuring took."""
        self._decider.check(self._total)
        taken = sum(turn.span for given in self._inputs for turn in given.turns)
        self._backbone.check_positions(self._before.offset + taken)
        with self._clock() as everything:
            for number, chunk in enumerate(self._inputs, start=1):
                self._add(chunk)
                # Only now are the queries of the context's last tokens known, which a window looks with.
                if self._decider.scope == "context" and number == len(self._inputs):
                    self._decide_as_a_whole()
                self._progress.up_to(number * self._backbone.n_layers)
        return Trace(
            memory=self._memory,
            chunks=tuple(self._chunks),
            raw=self._raw(),
            owners=torch.cat([torch.empty(0, dtype=torch.int64), *(chunk.owners for chunk in self._inputs)]),
            deciding=everything() - self._measuring,
            measuring=self._measuring,
        )

    def _add(self, given: ChunkInput) -> None:
        """Append a chunk: what the method keeps of it, or all of it if the context is decided as a whole."""
        chunk = prefill(self._backbone, concatenate(given.turns), self._memory, tail=self._decider.tail_tokens)
        self._remember_tail(chunk)
        decision, js = Decision([None] * self._backbone.n_layers), 0.0
        if self._decider.scope == "chunk":
            decision, js = self._decide(Region(self._backbone, chunk, self._memory, given.probes))
        self._extend(self._memory, decision, chunk)
        told = ChunkTrace(chunk.tokens, given.demonstrations, js)
        self._chunks.append(_with_decision(told, decision))

    def _extend(self, memory: Memory, decision: Decision, chunk: Chunk) -> None:
        refitted = decision.values is not None
        layers = decision.layers(chunk)
        self._memory = memory.extend(layers, offset=chunk.offset, tokens=chunk.tokens, refitted=refitted)

    def _decide(self, region: Region) -> tuple[Decision, float]:
        """The decision about a chunk, and the divergence of its final state against the chunk's own teacher."""
        # A measure of its own for every region: what one has measured says nothing about another.
        measure = Measure(region, self._progress.one)
        before = self._memory.tokens_seen - self._before.tokens_seen
        decision = self._decider.decide(region, self._share(before, region), measure)
        with self._clock() as measuring:
            js = measure(
                decision.kept, values=decision.values
            )  # costs nothing if the method has measured this very state
        self._measuring += measuring()
        self._earlier = decision
        return decision, js

    def _decide_as_a_whole(self) -> None:
        """Decide all chunks at once, then measure each with its own probes: the final against the whole memory."""
        whole, region = self._memory, self._whole_context()
        decision = self._decider.decide(region, self._share(0, region), Measure(region, self._progress.one))
        self._extend(self._before, decision, region.chunk)
        if not decision.changes:
            return  # so every chunk stays at a divergence of 0
        with self._clock() as measuring:
            measured = [self._divergence(chunk.probes, whole) for chunk in self._inputs]
        self._measuring += measuring()
        self._chunks = [replace(chunk, js=js) for chunk, js in zip(self._chunks, measured, strict=True)]
        self._chunks[-1] = _with_decision(self._chunks[-1], decision)

    def _whole_context(self) -> Region:
        """All that came behind the memory before as one region, probed by the rows of all chunks."""
        pairs = zip(self._memory.layers, self._before.layers, strict=True)
        layers = tuple(layer.after(before) for layer, before in pairs)
        chunk = Chunk(layers, self._raw(), self._memory.offset, tuple(self._tail))
        return Region(self._backbone, chunk, self._before, Probes.joined([given.probes for given in self._inputs]))

    def _divergence(self, probes: Probes, whole: Memory) -> float:
        return rows_divergence(self._backbone, probes.rows, whole, self._memory, compared=probes.compared)

    def _share(self, before: int, region: Region) -> Share:
        tokens = region.chunk.tokens
        return Share(before, tokens, self._total, min(self._decider.reserved, tokens), self._earlier)

    def _remember_tail(self, chunk: Chunk) -> None:
        wanted = self._decider.tail_tokens
        if wanted:
            # The window may reach back over several chunks: the last one can be a single short demonstration.
            older = self._tail or [queries[:, :0] for queries in chunk.tail]
            joined = [torch.cat(pair, dim=1) for pair in zip(older, chunk.tail, strict=True)]
            self._tail = [queries[:, -wanted:] for queries in joined]

    def _raw(self) -> Row:
        """The context as it went in; without the embeddings, which are large and needed no more."""
        turns = [turn for given in self._inputs for turn in given.turns]
        return concatenate([_without_embeddings(row) for row in turns or [self._backbone.system_row().first(0)]])

    @contextmanager
    def _clock(self) -> Iterator[Callable[[], Cost]]:
        """Yields what tells, after the block, what was run in it."""
        forwards, begin = self._backbone.layer_forwards, time.perf_counter()
        spent = Cost()
        yield lambda: spent
        spent = Cost(self._backbone.layer_forwards - forwards, time.perf_counter() - begin)


class _Steps:
    """Progress in layer steps; a chunk that is decided at once takes all of its steps together."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self._progress, self._total, self._done = progress, total, 0

    def one(self) -> None:
        """One more layer is decided."""
        self._done += 1
        if self._progress is not None:
            self._progress(self._done, self._total)

    def up_to(self, count: int) -> None:
        """So many are done in all."""
        while self._done < count:
            self.one()


def _with_decision(chunk: ChunkTrace, decision: Decision) -> ChunkTrace:
    return replace(
        chunk,
        layer_js=decision.layer_js,
        candidates=decision.candidates,
        refitted=decision.values is not None,
        crossfit=decision.crossfit,
    )


def _without_embeddings(row: Row) -> Row:
    return replace(row, embeds=row.embeds.new_empty(len(row), 0), added=None)
