"""`emloc_video`: a video condensed for one question (the paper's long-video setting; public reference variant 6).

The video is cut into windows of frames, which are the chunks, and the question is their probe: what follows the video
in the prompt scores a window's tokens, and its last tokens measure the divergence. So every question condenses its
video for itself, where `emloc` adapts once to all.

Differences from the public reference: divergences are float32, the last window may be short, frames are exact, and
attention is summed over the query heads of a KV head where the reference takes the mean, which ranks tokens alike.
"""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch

from emloc.allocation.base import Allocation
from emloc.allocation.layer_search import LayerSearch
from emloc.answering import answer_rows
from emloc.backbones.base import Backbone
from emloc.errors import UserError
from emloc.importance.answers import Answers
from emloc.importance.base import Importance
from emloc.memory import Memory
from emloc.methods.base import Method
from emloc.methods.loop import ChunkInput, Progress, condense
from emloc.methods.none import NoPruning
from emloc.methods.trace import OwnContext, Reply, Trace
from emloc.options import Count
from emloc.prompt import Query, TokenKind
from emloc.refit.base import Refit
from emloc.refit.none import NoRefit
from emloc.region import Probes
from emloc.rows import Row, concatenate, split
from emloc.video import Video


@dataclass(frozen=True, kw_only=True)
class EMLoCVideo(Method):
    """Prune a query's own video, window by window; demonstrations, if there are any, are all kept.

    Parameters
    ----------
    importance, allocation
        Of the video's tokens. The limit is one per window, ten times that of `emloc`; groups of seven layers share a
        decision.
    window
        Frames per window, whole temporal steps of the model. The last window takes what is left.
    js_tokens
        How many of the prompt's last tokens the divergence is the mean over.
    """

    name: ClassVar[str] = "emloc_video"
    own_contexts: ClassVar[bool] = True
    importance: Importance | None = Answers()  # noqa: RUF009 (frozen)
    allocation: Allocation | None = LayerSearch(delta=0.05, ratios=(0.02, 0.05, 0.1), group=7)  # noqa: RUF009 (frozen)
    refit: Refit | None = NoRefit()  # noqa: RUF009 (frozen)
    window: Count = 64
    js_tokens: Count = 16

    @torch.inference_mode()
    def trace_rows(self, backbone: Backbone, rows: Sequence[Row], *, progress: Progress | None = None) -> Trace:
        return NoPruning(chunk_size=self.chunk_size).trace_rows(backbone, rows, progress=progress)

    def answer(
        self, backbone: Backbone, queries: Sequence[Query], memory: Memory, *, max_new_tokens: int, batch_size: int
    ) -> list[Reply]:
        """As `Method.answer`; a query about a video is answered from a memory condensed for it, by itself.

        Consecutive questions about one video share its features.
        """
        self._check_window(backbone)
        others = [query for query in queries if not isinstance(query.visual, Video)]
        replies = iter(super().answer(backbone, others, memory, max_new_tokens=max_new_tokens, batch_size=batch_size))
        opening = functools.lru_cache(maxsize=1)(lambda video: backbone.opening_row(Query(video, "")))
        return [
            self._reply(backbone, query.visual, opening(query.visual), backbone.tail_row(query), memory, max_new_tokens)
            if isinstance(query.visual, Video)
            else next(replies)
            for query in queries
        ]

    def choose(
        self, backbone: Backbone, queries: Sequence[Query], choices: Sequence[str], memory: Memory, *, batch_size: int
    ) -> list[Reply]:
        """As `Method.choose`; UserError for a query about a video, whose own context is made for an answer."""
        videos = [query.id for query in queries if isinstance(query.visual, Video)]
        if videos:
            raise UserError(
                f"Expected answers to be generated for videos, but query {videos[0]!r} is to be ranked; "
                "write answer=generate."
            )
        return super().choose(backbone, queries, choices, memory, batch_size=batch_size)

    def _reply(
        self, backbone: Backbone, video: Video, opening: Row, tail: Row, memory: Memory, max_new_tokens: int
    ) -> Reply:
        trace = self._condense(backbone, video, opening, tail, memory)
        own = trace.memory
        (text,) = answer_rows(backbone, [tail], own, max_new_tokens=max_new_tokens)
        return Reply(text, OwnContext(own.tokens_seen, own.lengths, max(chunk.js for chunk in trace.chunks)))

    def condense(
        self, backbone: Backbone, query: Query, memory: Memory | None = None, *, progress: Progress | None = None
    ) -> tuple[Trace, Row]:
        """Condense the query's video behind `memory`, which stays as it is.

        Returns
        -------
        Trace
            The memory to answer the question on; its chunks are the windows, its raw tokens those of the video's turn
            (and of the system turn, if `memory` is empty).
        Row
            The rest of the query: the question and the opening of the answer, to be run at the memory's offset.

        Raises
        ------
        UserError
            If the query has no video, or its file cannot be read.
        """
        if not isinstance(query.visual, Video):
            raise UserError(f"Expected a query about a video, but query {query.id!r} has none; give it a Video.")
        self._check_window(backbone)
        opening, tail = backbone.opening_row(query), backbone.tail_row(query)
        memory = memory or backbone.empty_memory()
        return self._condense(backbone, query.visual, opening, tail, memory, progress), tail

    @torch.inference_mode()
    def _condense(
        self,
        backbone: Backbone,
        video: Video,
        opening: Row,
        tail: Row,
        memory: Memory,
        progress: Progress | None = None,
    ) -> Trace:
        system = [] if memory.tokens_seen else [backbone.system_row()]
        whole = concatenate([*system, opening])
        windows = split(whole, self._cuts(backbone, whole, video.frames))
        owners = torch.tensor([-1] * sum(map(len, system)) + [0] * len(opening))
        parts = owners.split([len(window) for window in windows])
        probes = self._probes(tail)
        inputs = [ChunkInput([window], part, probes) for window, part in zip(windows, parts, strict=True)]
        return condense(self, backbone, inputs, memory, progress=progress)

    def _probes(self, tail: Row) -> Probes:
        """All tokens of the question observe; the divergence is that of its last ones."""
        every = torch.ones(1, len(tail), dtype=torch.bool, device=tail.ids.device)
        last = every & (torch.arange(len(tail), device=every.device) >= len(tail) - self.js_tokens)
        return Probes([tail], observers=every, compared=last)

    def _check_window(self, backbone: Backbone) -> None:
        """UserError if a window would end within a step of the model; raised before a video is encoded."""
        per_step = backbone.frames_per_step
        if self.window % per_step:
            raise UserError(
                f"Expected window to be a multiple of {per_step} frames, one step of this model, but got {self.window}."
            )

    def _cuts(self, backbone: Backbone, row: Row, frames: int) -> list[int]:
        """The first token of every window but the first, which also holds what comes before the video."""
        per_step = backbone.frames_per_step
        visual = (row.kinds == TokenKind.IMAGE).nonzero()[:, 0]
        tokens = len(visual) // math.ceil(frames / per_step) * (self.window // per_step)
        return visual[tokens::tokens].tolist()
