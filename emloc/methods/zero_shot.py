"""`zero_shot`: no demonstrations at all (public reference variant 1)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from emloc.backbones.base import Backbone
from emloc.methods.base import Compression, Context, Method, Progress, Pruning, keep_all
from emloc.passes import Chunk
from emloc.prompt import Demonstration
from emloc.rows import Row


@dataclass(frozen=True, kw_only=True)
class ZeroShot(Method):
    """What the model knows by itself; the demonstrations it is given are left unused."""

    name: ClassVar[str] = "zero_shot"

    def trace(
        self, backbone: Backbone, demonstrations: Sequence[Demonstration], *, progress: Progress | None = None
    ) -> Compression:
        return super().trace(backbone, [], progress=progress)

    def trace_rows(self, backbone: Backbone, rows: Sequence[Row], *, progress: Progress | None = None) -> Compression:
        return super().trace_rows(backbone, [], progress=progress)

    def prune(
        self, backbone: Backbone, context: Context, chunk: Chunk, rows: Sequence[Row], tick: Callable[[], None]
    ) -> Pruning:
        return keep_all(backbone, tick)
