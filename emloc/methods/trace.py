"""What a method leaves besides its memory: what was kept of every chunk, at which divergence and at what cost."""

from dataclasses import dataclass

from torch import Tensor

from emloc.allocation.base import Candidate
from emloc.memory import Memory
from emloc.prompt import TokenKind
from emloc.rows import Row


@dataclass(frozen=True)
class ChunkTrace:
    """What happened to one chunk. Token counts are per KV head (means over heads where heads differ)."""

    tokens: int  # raw length
    demonstrations: int
    js: float  # nats, measured by the loop: the chunk's final state against its own teacher
    layer_js: tuple[float, ...] = ()  # nats per layer: the state after that layer's decision; empty where not searched
    candidates: tuple[Candidate, ...] = ()  # in the order tried
    refitted: bool = False  # whether the values that stay were
    crossfit: float | None = None  # nats, on probes that values were not fitted on; None: they were not refitted so


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
class Cost:
    """Decoder layers run (a batch counts once), and wall-clock seconds."""

    layer_forwards: int = 0
    seconds: float = 0.0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.layer_forwards + other.layer_forwards, self.seconds + other.seconds)

    def __sub__(self, other: "Cost") -> "Cost":
        return Cost(self.layer_forwards - other.layer_forwards, self.seconds - other.seconds)


@dataclass(frozen=True)
class Training:
    """What was learned, where a method trains weights: their number and bytes, and the loss (nats) of two steps."""

    parameters: int
    bytes: int
    epochs: int
    steps: int
    first_loss: float
    last_loss: float


@dataclass(frozen=True)
class Trace:
    """A memory and how it came about.

    Decisions about a context as a whole are told with its last chunk. `deciding` is what the memory cost, `measuring`
    what it took besides to measure the divergence of what had been decided. `trained` is what was learned besides.
    """

    memory: Memory
    chunks: tuple[ChunkTrace, ...]
    raw: Row  # the whole context as it went in, without its embeddings
    owners: Tensor  # (tokens seen,) int64, the demonstration that a raw token is of; -1: the system turn
    deciding: Cost = Cost()
    measuring: Cost = Cost()
    trained: Training | None = None

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
        index = self.memory.layers[layer].index.long().to(self.raw.kinds.device)
        inside = (index >= start) & (index < start + tokens)
        kinds = self.raw.kinds[index[inside] - self.before]
        heads = len(self.memory.layers[layer].lengths)
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
    tokens_kept_per_layer: list[float]  # means over KV heads
    js: float  # nats, of the worst chunk


@dataclass(frozen=True)
class Reply:
    """An answer. `own` is the context it was read from, None if that is the memory which all queries share."""

    text: str
    own: OwnContext | None = None
