"""What a model family must offer, and what all families share: encoding turns and running decoder layers.

Only the files of this package know transformers' internals.
"""

import functools
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import torch
from PIL import Image
from torch import Tensor, nn
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from emloc.answering import answer_batch
from emloc.attention import LayerAttention
from emloc.errors import UserError
from emloc.memory import Memory, MemoryLayer
from emloc.prompt import ChatFormat, Demonstration, Piece, Query, TokenKind, load_frames
from emloc.rows import Row

_ATTENTION_NAME = "emloc"
_VOCABULARY_BLOCK = 16384  # rows of the output matrix turned to float32 at a time


class Backbone(ABC):
    """A stock transformers model with its tokenizer and image processor.

    Attributes
    ----------
    layer_forwards
        Decoder layers run so far (a batch counts once): the cost that methods are compared by.
    label_words
        The only answers a miniature model knows, each one token; None for models that answer any text.
    """

    model_types: ClassVar[tuple[str, ...]]  # of the checkpoints this family reads
    chat: ClassVar[ChatFormat] = ChatFormat()
    steps_per_batch: ClassVar[int] = 16  # images, or temporal steps of videos, that the vision tower sees at once

    def __init__(
        self, model: Any, tokenizer: Any, image_processor: Any, *, label_words: tuple[str, ...] | None = None
    ) -> None:
        self.model = model.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.image_processor = image_processor
        self.label_words = label_words
        self.layer_forwards = 0
        self._piece_ids = functools.cache(self._tokenise)

    # -- what a family provides

    @classmethod
    @abstractmethod
    def load(cls, source: str | Path, dtype: torch.dtype | str) -> tuple[Any, Any, Any]:
        """Model, tokenizer and image processor of a checkpoint; UserError if weights are missing."""

    @abstractmethod
    def set_visual_tokens(self, count: int) -> None:
        """Resize every image, and every temporal step of a video, to about `count` tokens; the aspect ratio stays."""

    @property
    @abstractmethod
    def text_config(self) -> Any:
        """The decoder's configuration."""

    @property
    @abstractmethod
    def layers(self) -> nn.ModuleList:
        """Decoder layers, bottom to top."""

    @abstractmethod
    def embed(self, ids: Tensor) -> Tensor:
        """Token embeddings (T, C) of ids (T,)."""

    @abstractmethod
    def rotation(self, hidden: Tensor, positions: Tensor) -> Any:
        """What the layers take as `position_embeddings` for positions (P, B, T)."""

    @abstractmethod
    def final_norm(self, hidden: Tensor) -> Tensor:
        """The norm in front of the output matrix."""

    @property
    @abstractmethod
    def frames_per_step(self) -> int:
        """Frames of a video that share their visual tokens: one temporal step."""

    @abstractmethod
    def visual_features(self, visuals: Iterable[Iterable[Image.Image]]) -> Iterator[tuple[Tensor, Any]]:
        """For every visual, given as its RGB frames, its features (N, C) and whatever `positions` needs to place them.

        The features are in reading order, those of a video step after step; an image is one step.
        """

    @abstractmethod
    def positions(self, kinds: Tensor, grids: Sequence[Any]) -> Tensor:
        """Positions (P, T) from 0 of a row with these token kinds (T,) and grids of its visuals."""

    # -- facts

    @property
    def n_layers(self) -> int:
        """Number of decoder layers."""
        return len(self.layers)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.output_matrix.device

    @property
    def dtype(self) -> torch.dtype:
        """Type of the weights and of the memory."""
        return self.output_matrix.dtype

    @property
    def output_matrix(self) -> Tensor:
        """(V, C), the weights that turn hidden states into logits."""
        return self.model.get_output_embeddings().weight

    @functools.cached_property
    def end_ids(self) -> frozenset[int]:
        """Tokens that end an answer: end of turn, and what the checkpoint's generation settings name."""
        named = self.model.generation_config.eos_token_id
        named = [] if named is None else [named] if isinstance(named, int) else named
        return frozenset([*named, *self._piece_ids(self.chat.turn_close, False)])

    @functools.cached_property
    def fingerprint(self) -> str:
        """Identifies weights and architecture, the same for every dtype and device they are loaded in."""
        config = self.text_config
        digest = hashlib.sha256(f"{config.model_type}/{config.num_hidden_layers}/{config.num_key_value_heads}".encode())
        for weight in (*self.layers[0].parameters(), *self.layers[-1].parameters()):
            sample = weight.detach().flatten()[:256].to("cpu", torch.bfloat16)
            digest.update(sample.view(torch.int16).numpy().tobytes())
        return digest.hexdigest()[:16]

    def empty_memory(self) -> Memory:
        """A memory of nothing, at position 0."""
        config = self.text_config
        head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        entries = torch.empty(config.num_key_value_heads, 0, head_dim, device=self.device, dtype=self.dtype)
        index = torch.empty(config.num_key_value_heads, 0, device=self.device, dtype=torch.int32)
        return Memory((MemoryLayer(entries, entries, index),) * self.n_layers, 0, 0, self.fingerprint)

    # -- encoding

    @torch.inference_mode()
    def encode(self, items: Sequence[Demonstration | Query]) -> list[Row]:
        """Tokenise and embed turns; frames are read as the vision tower takes them, `steps_per_batch` steps at once."""
        visuals = self._features(items)
        return [self._row(self.chat.render(item), visuals) for item in items]

    @torch.inference_mode()
    def system_row(self) -> Row:
        """The system turn, which opens a context or a query without context."""
        return self._row(self.chat.system_turn(), iter(()))

    @torch.inference_mode()
    def opening_row(self, query: Query) -> Row:
        """A query's turn up to its question: the user's header and the visual."""
        return self._row(self.chat.opening(query), self._features([query]))

    @torch.inference_mode()
    def tail_row(self, query: Query) -> Row:
        """The rest of a query. `concatenate` makes of both parts what `encode` gives."""
        return self._row(self.chat.tail(query), iter(()))

    def _features(self, items: Sequence[Demonstration | Query]) -> Iterator[tuple[Tensor, Any]]:
        return self.visual_features(load_frames(item.visual) for item in items if item.visual is not None)

    def _row(self, pieces: Sequence[Piece], visuals: Iterator[tuple[Tensor, Any]]) -> Row:
        """A row of the pieces; takes one of `visuals` for each that stands for one."""
        ids, kinds, shown = [], [], []
        for piece in pieces:
            piece_ids = self._piece_ids(piece.text, piece.literal)
            if piece.kind == TokenKind.IMAGE:
                shown.append(next(visuals))
                piece_ids = piece_ids * shown[-1][0].shape[0]
            ids += piece_ids
            kinds += [int(piece.kind)] * len(piece_ids)
        return self.build_row(torch.tensor(ids), torch.tensor(kinds, dtype=torch.uint8), shown)

    def build_row(self, ids: Tensor, kinds: Tensor, visuals: Sequence[tuple[Tensor, Any]]) -> Row:
        """A row from ids (T,), kinds (T,) and the features of its visuals, in order."""
        embeds = self.embed(ids.to(self.device))
        if visuals:
            embeds = embeds.clone()
            embeds[(kinds == TokenKind.IMAGE).to(self.device)] = torch.cat([f for f, _ in visuals]).to(embeds)
        positions = self.positions(kinds, [grid for _, grid in visuals])
        return Row(ids.to(self.device), kinds.to(self.device), positions.to(self.device), embeds)

    def _tokenise(self, text: str, literal: bool) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False, split_special_tokens=literal).input_ids

    # -- answering

    def answer(
        self,
        queries: Sequence[Query],
        memory: Memory | None = None,
        *,
        max_new_tokens: int = 32,
        batch_size: int = 16,
    ) -> list[str]:
        """Greedy answers, one text per query, each ending at end of turn or after `max_new_tokens`.

        The memory is shared by the batch, never copied per query; answers do not depend on `batch_size`.
        Without a memory (or with an empty one) the queries are answered zero-shot, behind the system turn.
        """
        texts: list[str] = []
        for start in range(0, len(queries), batch_size):
            batch = queries[start : start + batch_size]
            texts += answer_batch(self, batch, memory, max_new_tokens=max_new_tokens)
        return texts

    def answer_ids(self, text: str) -> list[int]:
        """The token ids of an answer and of the end of its turn, as a demonstration has them."""
        return self._piece_ids(text, True) + self._piece_ids(self.chat.turn_close, False)

    # -- running layers

    @contextmanager
    def attention_override(self) -> Iterator[None]:
        """Route this decoder's attention to the `emloc` argument of its layers; everything is restored on exit.

        transformers looks attention functions up by name in a registry. The name lives there, and in this model's
        configuration, only inside the block; other models and this one's vision tower are never touched.
        """
        config = self.text_config
        before = config._attn_implementation
        ALL_ATTENTION_FUNCTIONS[_ATTENTION_NAME] = _attention_door
        config._attn_implementation = _ATTENTION_NAME
        try:
            yield
        finally:
            config._attn_implementation = before
            ALL_ATTENTION_FUNCTIONS.pop(_ATTENTION_NAME, None)

    @torch.inference_mode()
    def run_layers(
        self,
        hidden: Tensor,  # (B, T, C), input of layer `start`
        positions: Tensor,  # (P, B, T)
        attention: LayerAttention,
        *,
        start: int = 0,
        inputs: list[Tensor] | None = None,
    ) -> Tensor:
        """Run layers `start`..L-1 and return (B, T, C) before the final norm; `inputs` collects each layer's input."""
        rotation = self.rotation(hidden, positions)
        with self.attention_override():
            for layer in self.layers[start:]:
                if inputs is not None:
                    inputs.append(hidden)
                hidden = layer(hidden, attention_mask=None, position_embeddings=rotation, emloc=attention)
                self.layer_forwards += 1
        return hidden

    @torch.inference_mode()
    def logits(self, hidden: Tensor) -> Tensor:
        """Float32 logits (N, V) of hidden states (N, C) before the final norm.

        Products are formed in float32 whatever the weights' type: divergences near delta are decided by them.
        """
        normed = self.final_norm(hidden).float()
        blocks = self.output_matrix.split(_VOCABULARY_BLOCK)
        return torch.cat([normed @ block.float().T for block in blocks], dim=-1)


def _attention_door(
    module: Any, query: Tensor, key: Tensor, value: Tensor, _mask: Tensor | None, *, scaling: float, **extra: Any
) -> tuple[Tensor, None]:
    """The function that transformers' attention modules call inside `attention_override`."""
    if getattr(module, "sliding_window", None) is not None:  # Llama's attention has no such attribute
        raise UserError(
            "Expected a model with full attention, but this layer uses a sliding window; choose another model."
        )
    return extra["emloc"](module.layer_idx, query, key, value, scaling), None
