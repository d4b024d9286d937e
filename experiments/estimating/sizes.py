"""How large the model, the context and the queries are: what the formulas of `memory` and `forwards` are fed with."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from emloc.allocation.base import Share
from emloc.backbones.base import Backbone
from emloc.methods.base import Method
from emloc.options import Count, CountOrZero, check_options
from emloc.prompt import Demonstration, Query, TokenKind


@dataclass(frozen=True, kw_only=True)
class ModelSize:
    """Sizes of a model. `element` is the bytes of a number, `weights` those of all weights.

    `inner` is the width of a decoder layer's MLP, `added` the number of layers that visual features are added behind
    (deepstack), `patch` the numbers that the vision tower holds of one visual token at once (0: there is none).
    """

    layers: Count
    hidden: Count
    inner: Count
    heads: Count
    kv_heads: Count
    head_size: Count
    vocabulary: Count
    element: Count
    weights: Count
    added: CountOrZero = 0
    patch: CountOrZero = 0
    images_at_once: Count = 16

    def __post_init__(self) -> None:
        check_options(self)

    @classmethod
    def of(cls, backbone: Backbone) -> "ModelSize":
        """Of a backbone, whose weights may be on the meta device."""
        config, matrix = backbone.text_config, backbone.output_matrix
        return cls(
            layers=backbone.n_layers,
            hidden=config.hidden_size,
            inner=config.intermediate_size,
            heads=config.num_attention_heads,
            kv_heads=config.num_key_value_heads,
            head_size=getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads,
            vocabulary=matrix.shape[0],
            element=matrix.element_size(),
            weights=sum(weight.numel() * weight.element_size() for weight in backbone.model.parameters()),
            added=len(getattr(_vision(backbone), "deepstack_visual_indexes", ())),
            patch=_patch_numbers(_vision(backbone)),
            images_at_once=backbone.steps_per_batch,
        )

    @property
    def entry(self) -> int:
        """Bytes of one token in memory: keys and values of all layers and KV heads, as records count them."""
        return 2 * self.layers * self.kv_heads * self.head_size * self.element


def _vision(backbone: Backbone) -> Any:
    return getattr(backbone.model.config, "vision_config", None)


def _patch_numbers(vision: Any) -> int:
    """Numbers held per visual token in a layer of the vision tower: its patches' states, queries, keys, values, MLP.

    Qwen's towers merge `spatial_merge_size` x `spatial_merge_size` patches to a token. Of the others the shuffled
    patches are taken to be as many, for want of a common name in their configurations.
    """
    if vision is None:
        return 0
    width = getattr(vision, "embed_dim", None) or vision.hidden_size
    inner = getattr(vision, "intermediate_size", None) or int(width * vision.mlp_ratio)
    return getattr(vision, "spatial_merge_size", 2) ** 2 * (6 * width + 2 * inner)


@dataclass(frozen=True)
class Rows:
    """Turns that are run as one batch: the tokens of each, and how many of them are answer and visual tokens."""

    lengths: tuple[int, ...]
    answers: tuple[int, ...] = ()
    visual: tuple[int, ...] = ()

    @property
    def tokens(self) -> int:
        """Of all turns."""
        return sum(self.lengths)

    @property
    def padded(self) -> int:
        """Tokens of the batch, in which every row has the length of the longest."""
        return len(self.lengths) * max(self.lengths, default=0)

    def __getitem__(self, part: slice) -> "Rows":
        return Rows(self.lengths[part], self.answers[part], self.visual[part])

    def longest(self, count: int) -> "Rows":
        """The `count` longest of them, all if there are no more."""
        at = sorted(range(len(self.lengths)), key=self.lengths.__getitem__, reverse=True)[:count]
        return Rows(*(tuple(part[n] for n in at if part) for part in (self.lengths, self.answers, self.visual)))

    @classmethod
    def of(cls, backbone: Backbone, items: Sequence[Demonstration | Query], count: int | None = None) -> "Rows":
        """The items as rows; with `count` as many rows, all like one of the items that stand for them."""
        kinds = backbone.token_kinds(items)
        at = range(len(kinds)) if count is None else [number * len(kinds) // count for number in range(count)]
        answers, visual = ([int((row == kind).sum()) for row in kinds] for kind in (TokenKind.ANSWER, TokenKind.IMAGE))
        return cls(*(tuple(values[n] for n in at) for values in ([*map(len, kinds)], answers, visual)))


@dataclass(frozen=True, kw_only=True)
class Context:
    """The demonstrations in their order, the system turn in front of them, and how they are cut into chunks.

    `trained`: they change the model instead, so there is no chunk.
    """

    demonstrations: Rows
    opening: CountOrZero
    chunk_size: Count
    trained: bool = False

    @classmethod
    def of(cls, method: Method, demonstrations: Rows, *, opening: int) -> "Context":
        """What the method makes of the demonstrations behind a system turn of `opening` tokens."""
        trained = method.schedule is not None
        return cls(demonstrations=demonstrations, opening=opening, chunk_size=method.chunk_size, trained=trained)

    def __post_init__(self) -> None:
        check_options(self)

    @property
    def chunks(self) -> list[Rows]:
        """The demonstrations chunk by chunk."""
        shots = 0 if self.trained else len(self.demonstrations.lengths)
        return [self.demonstrations[at : at + self.chunk_size] for at in range(0, shots, self.chunk_size)]

    @property
    def chunk_tokens(self) -> list[int]:
        """Raw tokens of every chunk; the first also has the system turn."""
        return [rows.tokens + self.opening * (number == 0) for number, rows in enumerate(self.chunks)]

    @property
    def tokens(self) -> int:
        """Raw tokens of the whole context."""
        return sum(self.chunk_tokens)

    def shares(self, method: Method) -> Iterator[Share]:
        """The regions that the method decides: chunk by chunk, or the context at once."""
        regions = self.chunk_tokens if method.scope == "chunk" else [self.tokens] if self.chunks else []
        before = 0
        for tokens in regions:
            yield Share(before, tokens, self.tokens, min(method.reserved, tokens))
            before += tokens


@dataclass(frozen=True, kw_only=True)
class Queries:
    """What is asked: how many queries, `batch` of them at once, whose rows are like these.

    `new_tokens` is what an answer may have; `choices` are the tokens of the answers that are ranked instead.
    """

    count: CountOrZero
    batch: Rows
    new_tokens: Count
    choices: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        check_options(self)

    @property
    def batches(self) -> int:
        """How many batches that makes."""
        return -(-self.count // max(1, len(self.batch.lengths)))
