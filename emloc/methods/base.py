"""What a method is: a chain of stages that turns demonstrations into a memory, and answers queries on it."""

from collections.abc import Sequence
from dataclasses import InitVar, dataclass, field
from typing import ClassVar, Literal

import torch

from emloc.allocation.base import Allocation, Decision, Share
from emloc.backbones.base import Backbone
from emloc.errors import UserError
from emloc.fine_tuning import Schedule
from emloc.importance.base import Importance, Scope
from emloc.memory import Memory
from emloc.methods.loop import ChunkInput, Progress, condense
from emloc.methods.trace import Reply, Trace
from emloc.options import Count, check_options
from emloc.prompt import Demonstration, Query
from emloc.quantising import Quantisation
from emloc.ranking import likelihoods
from emloc.refit.base import Refit
from emloc.region import Measure, Probes, Region
from emloc.rows import Row, balanced


@dataclass(frozen=True, kw_only=True)
class Method:
    """Demonstrations -> chunks (context) -> scores (importance) -> which tokens stay (allocation) -> values (refit).

    Any importance goes with any allocation. A method that does not factor in this way overrides one stage:
    `demonstrated` or `chunks` (the context), `decide` (importance and allocation together) or `answer`.

    Parameters
    ----------
    chunk_size
        Demonstrations per chunk. The last chunk takes what is left, even a single one.
    importance
        How much every token matters; None for methods that prune nothing.
    allocation
        How many tokens stay at every layer; None: all of them.
    probe
        Which demonstrations probe a chunk: its own (`self`, EMLoC's), which find their own answers in it, or those of
        the next one (`heldout`; the first one's probe the last), which do not.
    probes
        How many of those demonstrations probe it: `all`, or this many, the same ones at every call, taken so that
        answers are as balanced as they can be; all, where there are no more.
    refit
        How the values that stay make up for what was pruned; None: they stay the model's own.
    """

    name: ClassVar[str] = "method"  # of the file, the YAML, the table label and the command-line word
    foreseen: ClassVar[bool] = True  # which demonstrations are in the context is known before they are read
    own_contexts: ClassVar[bool] = False  # prunes a context per query; the demonstrations all stay
    chunk_size: Count = 20
    probe: Literal["self", "heldout"] = "self"
    probes: Literal["all"] | Count = "all"
    importance: Importance | None = None
    allocation: Allocation | None = None
    refit: Refit | None = None

    def __post_init__(self) -> None:
        check_options(self)
        if (self.importance is None) != (self.allocation is None):
            given = "only an importance" if self.importance else "only an allocation"
            raise UserError(f"Expected both an importance and an allocation, or neither, but got {given}.")

    def compress(
        self, backbone: Backbone, demonstrations: Sequence[Demonstration], *, progress: Progress | None = None
    ) -> Memory:
        """Adapt to a task: the memory that its demonstrations leave."""
        return self.trace(backbone, demonstrations, progress=progress).memory

    @torch.inference_mode()
    def trace(
        self, backbone: Backbone, demonstrations: Sequence[Demonstration], *, progress: Progress | None = None
    ) -> Trace:
        """As `compress`, with a trace of every decision besides the memory."""
        return self.trace_rows(backbone, backbone.encode(self.demonstrated(demonstrations)), progress=progress)

    @torch.inference_mode()
    def trace_rows(self, backbone: Backbone, rows: Sequence[Row], *, progress: Progress | None = None) -> Trace:
        """As `trace`, from demonstrations that are encoded already: those that `demonstrated` leaves."""
        return condense(self, backbone, self.chunks(backbone, rows), progress=progress)

    def answer(
        self, backbone: Backbone, queries: Sequence[Query], memory: Memory, *, max_new_tokens: int, batch_size: int
    ) -> list[Reply]:
        """Greedy answers to queries on the memory that `compress` made, in the queries' order."""
        texts = backbone.answer(queries, memory, max_new_tokens=max_new_tokens, batch_size=batch_size)
        return [Reply(text) for text in texts]

    def choose(
        self, backbone: Backbone, queries: Sequence[Query], choices: Sequence[str], memory: Memory, *, batch_size: int
    ) -> list[Reply]:
        """For every query the likeliest of `choices` as its answer, on the memory that `compress` made."""
        ids = [backbone.answer_ids(choice) for choice in choices]
        best = likelihoods(backbone, queries, ids, memory, batch_size=batch_size).argmax(dim=1)
        return [Reply(choices[place]) for place in best.tolist()]

    # -- the stages

    def demonstrated(self, demonstrations: Sequence[Demonstration]) -> Sequence[Demonstration]:
        """Those that the context shows."""
        return demonstrations

    def chunks(self, backbone: Backbone, rows: Sequence[Row]) -> list[ChunkInput]:
        """The context in chunks, each probed as `probe` says; the first one opens with the system turn."""
        groups = [rows[at : at + self.chunk_size] for at in range(0, len(rows), self.chunk_size)]
        if self.probe == "heldout" and len(groups) == 1:
            raise UserError(
                f"Expected at least two chunks for probe=heldout, but {len(rows)} demonstrations are one; lower "
                "chunk_size, or write probe=self."
            )
        probing = groups if self.probe == "self" else [*groups[1:], *groups[:1]]
        pairs = enumerate(zip(groups, probing, strict=True))
        return [
            _chunk(backbone, own, self._probing(of, number), first=number * self.chunk_size)
            for number, (own, of) in pairs
        ]

    def decide(self, region: Region, share: Share, measure: Measure) -> Decision:
        """Which tokens of the region stay."""
        if self.importance is None or self.allocation is None:  # both are, see __post_init__
            return Decision([None] * len(region.chunk.layers))
        scores = self.importance.scores(region)
        if self.refit is None:
            return self.allocation.decide(scores, share, measure)
        return self.refit.decide(self.allocation, scores, share, measure)

    def _probing(self, rows: Sequence[Row], chunk: int) -> Probes:
        return Probes(rows if self.probes == "all" else balanced(rows, self.probes, seed=chunk))

    # -- what the loop and the record ask

    @property
    def scope(self) -> Scope:
        """Whether chunks are decided one by one, or the context as a whole."""
        return "chunk" if self.importance is None else self.importance.scope

    @property
    def tail_tokens(self) -> int:
        """How many of the context's last tokens the importance wants the queries of."""
        return 0 if self.importance is None else self.importance.tail_tokens

    @property
    def reserved(self) -> int:
        """How many tokens of a region stay at any budget."""
        return 0 if self.importance is None else self.importance.reserved

    @property
    def quantisation(self) -> Quantisation | None:
        """How the memory's entries are taken to be stored; None: as they are."""
        return None

    @property
    def schedule(self) -> Schedule | None:
        """How weights are trained on the demonstrations; None: they are not, demonstrations are the context."""
        return None

    @property
    def limit(self) -> float | None:
        """The divergence (nats) that the decision about a region may cause; None: it is not limited."""
        return None if self.allocation is None else self.allocation.limit

    def check(self, total: int) -> None:
        """Refuse, before any work, a context of `total` tokens that cannot be decided: UserError."""
        if self.allocation is not None:
            self.allocation.check(total, self.reserved)


@dataclass(frozen=True, kw_only=True)
class LimitedMethod(Method):
    """A method whose allocation has a limit on the divergence, which can be given alone.

    `delta` (nats), first and by position: short for an allocation with that limit. It is no option of the method.
    """

    delta: InitVar[float | None] = field(default=None, kw_only=False)

    def __post_init__(self, delta: float | None) -> None:
        if delta is not None:
            if self.allocation is None:
                raise UserError(f"Expected an allocation for delta={delta}, but got none; leave delta out.")
            object.__setattr__(self, "allocation", self.allocation.limited(delta))
        super().__post_init__()


def _chunk(backbone: Backbone, rows: Sequence[Row], probes: Probes, *, first: int) -> ChunkInput:
    """A chunk of demonstrations; `first` is the number of its first one."""
    opening = [backbone.system_row()] if first == 0 else []
    lengths = torch.tensor([len(row) for row in (*opening, *rows)])
    numbers = torch.arange(first - len(opening), first + len(rows))
    return ChunkInput([*opening, *rows], numbers.repeat_interleave(lengths), probes, demonstrations=len(rows))
