"""`snapkv`: keep what the end of the context looks at (SnapKV, arXiv 2404.14469), as published but query-agnostic.

The published method scores a prompt by the attention of its last tokens, the observation window. Here the prompt is
the demonstrations alone, so one compression serves every query. Differences: scores are summed over the query heads
of a KV head and selection is per KV head, where the published code repeats keys to all query heads.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor

from emloc.allocation.budget import Budget, spread
from emloc.attention import fold_groups
from emloc.backbones.base import Backbone
from emloc.divergence import js_divergence
from emloc.errors import UserError
from emloc.importance.scores import pool_scores, top_indices
from emloc.methods.base import Compression, Context, Method, Pruning, keep_all
from emloc.methods.emloc import probe_scores
from emloc.passes import Chunk, Probe, rows_divergence
from emloc.rows import Row

OBSERVERS = ("window", "probes")


@dataclass(frozen=True, kw_only=True)
class SnapKV(Method):
    """The same number of tokens at every layer, chosen by attention.

    Parameters
    ----------
    budget
        Mean tokens per layer: a ratio of the context, a number of tokens, or `match:PATH/record.json`.
    window
        Last tokens of the context that observe; they are always kept.
    observe
        `window`: as published. `probes`: the chunk's demonstrations observe, with EMLoC's importance, chunk by chunk
        (the paper's variant of the baselines); the budget is then shared among chunks by their length.
    kernel
        Width of the average pooling of scores (odd).
    """

    name: ClassVar[str] = "snapkv"
    budget: str | float = 0.2
    window: int = 32
    observe: str = "window"
    kernel: int = 5

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.observe not in OBSERVERS:
            raise UserError(f"Expected observe to be one of {', '.join(OBSERVERS)}, but got {self.observe!r}.")
        if self.window < 1 or self.kernel < 1 or self.kernel % 2 == 0:
            raise UserError(
                f"Expected window >= 1 and an odd kernel, but got window={self.window}, kernel={self.kernel}."
            )
        _ = self._budget  # a budget that cannot be read is refused now

    @cached_property
    def _budget(self) -> Budget:
        """`budget` as it was on construction: a record that it names is read once, whatever becomes of the file."""
        return Budget.parse(self.budget)

    @property
    def tail_tokens(self) -> int:
        return self.window if self.observe == "window" else 0

    def layer_weights(self, layers: int) -> list[float]:
        """Relative budgets of the layers, bottom to top."""
        return [1.0] * layers

    def layer_budgets(self, layers: int, context_tokens: int) -> list[int]:
        """Tokens per layer, the observation window included; their mean is the budget."""
        mean = self._budget.resolve(context_tokens)
        window = self.tail_tokens
        scored = spread(self.layer_weights(layers), (mean - window) * layers, most=context_tokens - window)
        return [count + window for count in scored]

    def check(self, context: Context) -> None:
        if not context.tokens:
            return
        tokens = self._budget.resolve(context.tokens)
        if tokens < max(1, self.tail_tokens):
            raise UserError(
                f"Expected a budget of at least the observation window, {self.tail_tokens} tokens, but budget="
                f"{self.budget} is {tokens:.0f} of {context.tokens} context tokens; raise budget or lower window."
            )

    def prune(
        self, backbone: Backbone, context: Context, chunk: Chunk, rows: Sequence[Row], tick: Callable[[], None]
    ) -> Pruning:
        everything = keep_all(backbone, tick)
        if self.observe == "window":
            return everything
        probe = Probe(backbone, rows, context.memory, chunk)
        counts = self._chunk_budgets(backbone.n_layers, context, chunk.tokens)
        scores = probe_scores(probe, chunk.row.answers)
        kept = [top_indices(score, count) for score, count in zip(scores, counts, strict=True)]
        parts = [layer.select(index).key_values for layer, index in zip(chunk.layers, kept, strict=True)]
        return Pruning(kept, js_divergence(probe.reference, probe.rerun(0, parts)).item())

    def _chunk_budgets(self, layers: int, context: Context, tokens: int) -> list[int]:
        """This chunk's part of every layer's budget; parts of all chunks add up to the budget exactly."""
        budgets = self.layer_budgets(layers, context.tokens)
        before = context.memory.tokens_seen
        return [round(b * (before + tokens) / context.tokens) - round(b * before / context.tokens) for b in budgets]

    def finish(self, backbone: Backbone, context: Context) -> Compression:
        whole = super().finish(backbone, context)
        if not context.tokens:
            return whole
        mean = self._budget.resolve(context.tokens)
        if self.observe == "probes":
            return replace(whole, budget_tokens=mean)
        budgets = self.layer_budgets(backbone.n_layers, context.tokens)
        kept = [
            self._window_choice(layer.keys, queries, count)
            for layer, queries, count in zip(context.memory.layers, context.tail, budgets, strict=True)
        ]
        memory = context.memory.select(kept)
        js = [rows_divergence(backbone, rows, context.memory, memory) for rows in context.rows]
        chunks = tuple(replace(chunk, js=value) for chunk, value in zip(whole.chunks, js, strict=True))
        return replace(whole, memory=memory, chunks=chunks, budget_tokens=mean)

    def _window_choice(self, keys: Tensor, queries: Tensor, count: int) -> Tensor:
        """Entries (H_kv, count) of one layer: the window itself and the best-scored tokens before it."""
        window = queries.shape[1]
        before = keys.shape[1] - window
        scores = pool_scores(window_attention(queries, keys), width=self.kernel)
        best = top_indices(scores[:, :before], count - window)
        tail = torch.arange(before, keys.shape[1], device=keys.device).expand(keys.shape[0], -1)
        return torch.cat([best, tail], dim=1)


def window_attention(queries: Tensor, keys: Tensor) -> Tensor:
    """Attention (H_kv, T) that the last W tokens, queries (H_q, W, D), pay to every key (H_kv, T, D), summed."""
    kv_heads, length, dim = keys.shape
    window = queries.shape[1]
    logits = (fold_groups(queries[None].float(), kv_heads) @ keys.float().transpose(-1, -2)) * dim**-0.5
    visible = torch.ones(window, length, dtype=torch.bool, device=keys.device).tril(length - window)
    logits = logits.view(kv_heads, -1, window, length).masked_fill(~visible, -torch.inf)
    return logits.softmax(-1).sum((1, 2))
