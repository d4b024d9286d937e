"""`emloc_video`: a video condensed for one question (the paper's long-video setting; public reference variant 6).

The video is cut into windows of frames, and EMLoC's search prunes one window after the other, with the question as
its probe: what follows the video in the prompt scores the window's tokens, and its last tokens measure the divergence.
So a video is condensed anew for every question, where `emloc` adapts once to all.

Differences from the public reference: divergences are float32, the last window may be short, frames are exact, and
attention is summed over the query heads of a KV head where the reference takes the mean, which ranks tokens alike.
"""

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch

from emloc.allocation.layer_search import checked, search_layers
from emloc.answering import answer_rows
from emloc.backbones.base import Backbone
from emloc.errors import UserError
from emloc.importance.scores import pool_scores
from emloc.memory import Memory
from emloc.methods.base import Compression, Context, Method, OwnContext, Progress, Pruning, Reply, keep_all, layer_steps
from emloc.passes import Chunk, Probe, prefill
from emloc.prompt import Query, TokenKind
from emloc.rows import Row, concatenate, split
from emloc.video import Video


@dataclass(frozen=True, kw_only=True)
class EMLoCVideo(Method):
    """Prune a query's own video, window by window; demonstrations, if there are any, are all kept.

    Parameters
    ----------
    delta
        Limit on the Jensen-Shannon divergence (nats) of the end of the prompt between the pruned and the whole window;
        one budget per window, ten times that of `emloc`.
    ratios
        Retention ratios tried at every group of layers, ascending; the first within the limit is taken, else all of
        the window is kept there. A ratio that would keep no token of a (short) window is not tried.
    group
        Neighbouring layers that share a ratio and its trial, counted from the top. Each layer and KV head keeps its
        own tokens.
    window
        Frames per window, whole temporal steps of the model. The last window takes what is left.
    js_tokens
        How many of the prompt's last tokens the divergence is the mean over.
    """

    name: ClassVar[str] = "emloc_video"
    delta: float = 0.05
    ratios: tuple[float, ...] = (0.02, 0.05, 0.1)
    group: int = 7
    window: int = 64
    js_tokens: int = 16

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "ratios", checked(self.delta, self.ratios, self.group))
        if min(self.window, self.js_tokens) < 1:
            given = f"window={self.window}, js_tokens={self.js_tokens}"
            raise UserError(f"Expected window and js_tokens of at least 1, but got {given}.")

    def prune(
        self, backbone: Backbone, context: Context, chunk: Chunk, rows: Sequence[Row], tick: Callable[[], None]
    ) -> Pruning:
        return keep_all(backbone, tick)

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

    def _reply(
        self, backbone: Backbone, video: Video, opening: Row, tail: Row, memory: Memory, max_new_tokens: int
    ) -> Reply:
        compression = self._condense(backbone, video, opening, tail, memory)
        own = compression.memory
        (text,) = answer_rows(backbone, [tail], own, max_new_tokens=max_new_tokens)
        return Reply(text, OwnContext(own.tokens_seen, own.lengths, max(chunk.js for chunk in compression.chunks)))

    def condense(
        self, backbone: Backbone, query: Query, memory: Memory | None = None, *, progress: Progress | None = None
    ) -> tuple[Compression, Row]:
        """Condense the query's video behind `memory`, which stays as it is.

        Returns
        -------
        Compression
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
    ) -> Compression:
        system = [] if memory.tokens_seen else [backbone.system_row()]
        whole = concatenate([*system, opening])
        windows = split(whole, self._cuts(backbone, whole, video.frames))
        ticks = layer_steps(progress, len(windows) * backbone.n_layers)
        context = Context([[opening]], memory, len(whole))
        for window in windows:
            chunk = prefill(backbone, window, context.memory)
            pruning = self._prune_window(backbone, context.memory, chunk, tail, lambda: next(ticks))
            self._store(context, chunk, pruning, 0)
        return self.finish(backbone, context)

    def _check_window(self, backbone: Backbone) -> None:
        """UserError if a window would end within a step of the model; told before a video is encoded."""
        per_step = backbone.frames_per_step
        if self.window % per_step:
            raise UserError(
                f"Expected window to be a multiple of {per_step} frames, one step of this model, but got {self.window}."
            )

    def _cuts(self, backbone: Backbone, row: Row, frames: int) -> list[int]:
        """The first token of every window but the first, which also holds what stands before the video."""
        per_step = backbone.frames_per_step
        visual = (row.kinds == TokenKind.IMAGE).nonzero()[:, 0]
        tokens = len(visual) // math.ceil(frames / per_step) * (self.window // per_step)
        return visual[tokens::tokens].tolist()

    def _prune_window(
        self, backbone: Backbone, memory: Memory, chunk: Chunk, tail: Row, tick: Callable[[], None]
    ) -> Pruning:
        every = torch.ones(1, len(tail), dtype=torch.bool, device=tail.ids.device)
        last = every & (torch.arange(len(tail), device=every.device) >= len(tail) - self.js_tokens)
        probe = Probe(backbone, [tail], memory, chunk, observers=every, compared=last)
        scores = [pool_scores(attention) for attention in probe.attention]
        return search_layers(probe, chunk, scores, tick, ratios=self.ratios, delta=self.delta, group=self.group)
