"""`none`: every demonstration, nothing pruned (the paper's MLoC; public reference variant 2)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from emloc.backbones.base import Backbone
from emloc.methods.base import Context, Method, Pruning, keep_all
from emloc.passes import Chunk
from emloc.rows import Row


@dataclass(frozen=True, kw_only=True)
class NoPruning(Method):
    """The full many-shot context: the accuracy to hold and the context length to beat."""

    name: ClassVar[str] = "none"

    def prune(
        self, backbone: Backbone, context: Context, chunk: Chunk, rows: Sequence[Row], tick: Callable[[], None]
    ) -> Pruning:
        return keep_all(backbone, tick)
