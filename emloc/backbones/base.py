"""What a model family must offer, and what all families share: encoding turns and answering."""

import copy
import functools
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from PIL import Image
from torch import Tensor
from transformers.initialization import no_init_weights

from emloc.answering import answer_batch
from emloc.attention import Attn
from emloc.backbones import family_for
from emloc.backbones.decoder import Decoder
from emloc.backbones.generation import generate
from emloc.backbones.templates import read_tokenizer
from emloc.checkpoint import LoadOptions
from emloc.errors import UserError
from emloc.memory import Memory
from emloc.prompt import ChatFormat, Demonstration, Piece, Query, TokenKind, Visual, load_frames
from emloc.rows import Row
from emloc.video import Video


class Backbone(Decoder):
    """A stock transformers model with its tokenizer and image processor.

    Attributes
    ----------
    label_words
        The only answers a miniature model knows, each one token; None for models that answer any text.
    """

    model_types: ClassVar[tuple[str, ...]]  # of the checkpoints this family reads
    model_class: ClassVar[Any]  # of transformers, to load them with
    processor_class: ClassVar[Any] = None  # the PIL image processor: others want torchvision
    reads: ClassVar[tuple[str, ...]] = ()  # besides text: "images", "videos"
    steps_per_batch: ClassVar[int] = 16  # images, or temporal steps of videos, that the vision tower sees at once

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        image_processor: Any,
        *,
        label_words: tuple[str, ...] | None = None,
        attn: Attn = "auto",
    ) -> None:
        super().__init__(model, attn=attn)
        self.tokenizer = tokenizer
        self.image_processor = image_processor
        self.label_words = label_words
        self._piece_ids = functools.cache(self.tokenise)

    @classmethod
    def load_readers(cls, source: str | Path, options: LoadOptions) -> tuple[Any, Any]:
        """Tokenizer and image processor of a checkpoint; UserError if it has no tokenizer."""
        # Composed here: AutoProcessor wants torchvision, for video.
        tokenizer, kind = read_tokenizer(source, options), cls.processor_class
        return tokenizer, kind.from_pretrained(source, **options.where) if kind else None

    @classmethod
    def outline(
        cls,
        config: Any,
        tokenizer: Any,
        image_processor: Any,
        options: LoadOptions,
        *,
        dtype: torch.dtype | None = None,
        label_words: tuple[str, ...] | None = None,
        attn: Attn = "auto",
    ) -> "Backbone":
        """A backbone whose weights have no values, which takes no time: what it refuses, the real one would."""
        trusted = options.trust_remote_code
        with torch.device("meta"), no_init_weights():
            model = cls.model_class.from_config(copy.deepcopy(config), dtype=dtype, trust_remote_code=trusted)
        model.tie_weights()  # part of the initialisation that is left out
        return cls(model, tokenizer, image_processor, label_words=label_words, attn=attn)

    @classmethod
    def load_model(cls, source: str | Path, **settings: Any) -> Any:
        """The model of a checkpoint, loaded with transformers' own `settings`; UserError if weights are missing."""
        model, info = cls.model_class.from_pretrained(source, output_loading_info=True, **settings)
        if info["missing_keys"] or info["mismatched_keys"]:
            missing = sorted([*info["missing_keys"], *(str(key) for key in info["mismatched_keys"])])
            raise UserError(
                f"Expected complete weights at {source}, but {len(missing)} tensors are missing or of another shape "
                f"({missing[0]}, ...); download the checkpoint again."
            )
        return model.requires_grad_(False)

    @staticmethod
    def from_model(model: Any, tokenizer: Any, image_processor: Any = None) -> "Backbone":
        """A backbone of a model that is loaded already; its family is that of `model.config.model_type`.

        The model is switched to evaluation; its weights stay where and as they are.

        Parameters
        ----------
        tokenizer
            With the chat template that the model was trained with (for some families that of the processor).
        image_processor
            The PIL image processor of a family that reads images.

        Raises
        ------
        UserError
            If the family is not supported, or its image processor is missing.
        """
        family = family_for(model.config.model_type, f"this {type(model).__name__}")
        if family.processor_class is not None and image_processor is None:
            raise UserError(
                f"Expected an image processor, for {model.config.model_type} reads images, but got none; pass a "
                f"{family.processor_class.__name__}."
            )
        backbone = family(model, tokenizer, image_processor)
        backbone.check_tokenizer()
        return backbone

    # -- what a family provides

    @abstractmethod
    def read_chat(self) -> ChatFormat:
        """How turns are written: the family's own format, or that of the tokenizer's chat template."""

    @abstractmethod
    def set_visual_tokens(self, count: int) -> None:
        """Resize every image, and every temporal step of a video, to about `count` tokens; the aspect ratio stays.

        UserError if a model always uses another number.
        """

    @property
    def frames_per_step(self) -> int:
        """Frames of a video that share their visual tokens: one temporal step."""
        return 1

    @abstractmethod
    def visual_features(self, visuals: Iterable[Iterable[Image.Image]]) -> Iterator[tuple[Tensor, Any]]:
        """For every visual, given as its RGB frames, its features (N, C) and whatever `positions` needs to place them.

        The features are in reading order, those of a video step after step; an image is one step.
        """

    @abstractmethod
    def visual_size(self, visual: Visual) -> int:
        """How many features `visual_features` gives for a visual; only its image processor is asked, no weights."""

    def positions(self, kinds: Tensor, grids: Sequence[Any]) -> Tensor:
        """Positions (P, T) from 0 of a row with these token kinds (T,) and grids of its visuals; here one by one."""
        return torch.arange(len(kinds))[None]

    # -- facts

    @functools.cached_property
    def chat(self) -> ChatFormat:
        """How turns are written."""
        return self.read_chat()

    @functools.cached_property
    def end_ids(self) -> frozenset[int]:
        """Tokens that end an answer: end of turn, and what the checkpoint's generation settings name."""
        named = self.model.generation_config.eos_token_id
        named = [] if named is None else [named] if isinstance(named, int) else named
        return frozenset([*named, *self._piece_ids(self.chat.turn_close, False)])

    # -- encoding

    @torch.inference_mode()
    def encode(self, items: Sequence[Demonstration | Query]) -> list[Row]:
        """Tokenise and embed turns; frames are read as the vision tower takes them, `steps_per_batch` steps at once."""
        visuals = self._features(items)
        return [self._row(self.chat.render(item), visuals) for item in items]

    @torch.inference_mode()
    def system_row(self) -> Row:
        """The system turn, which opens a context or a query without context; empty where the format has none."""
        return self._row(self.chat.system_turn(), iter(()))

    @torch.inference_mode()
    def opening_row(self, query: Query) -> Row:
        """A query's turn up to its question: the user's header and the visual."""
        return self._row(self.chat.opening(query), self._features([query]))

    @torch.inference_mode()
    def tail_row(self, query: Query) -> Row:
        """The rest of a query. `concatenate` makes of both parts what `encode` gives."""
        return self._row(self.chat.tail(query), iter(()))

    def token_kinds(self, items: Sequence[Demonstration | Query]) -> list[Tensor]:
        """The `kinds` (T,) of the rows that `encode` gives; weights are not needed, they may be on the meta device."""
        for item in items:
            self._check_visual(item)
        sizes = ([] if item.visual is None else [self.visual_size(item.visual)] for item in items)
        return [self._tokens(self.chat.render(item), size)[1] for item, size in zip(items, sizes, strict=True)]

    def _features(self, items: Sequence[Demonstration | Query]) -> Iterator[tuple[Tensor, Any]]:
        for item in items:
            self._check_visual(item)
        return self.visual_features(load_frames(item.visual) for item in items if item.visual is not None)

    def _check_visual(self, item: Demonstration | Query) -> None:
        """UserError if the model does not read what the item shows."""
        what = "videos" if isinstance(item.visual, Video) else "images"
        if item.visual is not None and what not in self.reads:
            readable = " and ".join(("text", *self.reads))
            raise UserError(
                f"Expected a model that reads {what}, but {self.model.config.model_type} reads {readable} only; choose "
                f"another model, or questions without {what}."
            )

    def check_tokenizer(self) -> None:
        """UserError if the tokenizer has no chat format, or writes an image by another token than the model knows."""
        token = self.chat.image_token
        known = getattr(self.model.config, "image_token_id", None)
        if "images" in self.reads and self._piece_ids(token, False) != [known]:
            raise UserError(
                f"Expected a tokenizer that writes {token} as token {known}, as the model has it, but this one writes "
                f"{self._piece_ids(token, False)}; use the tokenizer of the same checkpoint."
            )

    def _row(self, pieces: Sequence[Piece], visuals: Iterator[tuple[Tensor, Any]]) -> Row:
        """A row of the pieces; takes one of `visuals` for each visual piece."""
        shown = [next(visuals) for piece in pieces if piece.kind == TokenKind.IMAGE]
        return self.build_row(*self._tokens(pieces, [len(features) for features, _ in shown]), shown)

    def _tokens(self, pieces: Sequence[Piece], sizes: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Ids and kinds (T,) of the pieces; a visual piece takes as many tokens as the next of `sizes` says."""
        ids, kinds, left = [], [], iter(sizes)
        for piece in pieces:
            piece_ids = self._piece_ids(piece.text, piece.literal)
            if piece.kind == TokenKind.IMAGE:
                piece_ids = piece_ids * next(left)
            ids += piece_ids
            kinds += [int(piece.kind)] * len(piece_ids)
        return torch.tensor(ids, dtype=torch.int64), torch.tensor(kinds, dtype=torch.uint8)

    def build_row(self, ids: Tensor, kinds: Tensor, visuals: Sequence[tuple[Tensor, Any]]) -> Row:
        """A row from ids (T,), kinds (T,) and the features of its visuals, in order.

        Raises
        ------
        UserError
            If there are more or fewer visual tokens than features.
        """
        embeds = self.embed(ids.to(self.device))
        tokens, features = int((kinds == TokenKind.IMAGE).sum()), sum(len(each) for each, _ in visuals)
        if tokens != features:
            raise UserError(
                f"Expected one visual token for every feature of the images, but a row has {tokens} tokens for "
                f"{features} features of {len(visuals)} visuals; write each image once, where it belongs."
            )
        if visuals:
            embeds = embeds.clone()
            embeds[(kinds == TokenKind.IMAGE).to(self.device)] = torch.cat([f for f, _ in visuals]).to(embeds)
        positions = self.positions(kinds, [grid for _, grid in visuals])
        return Row(ids.to(self.device), kinds.to(self.device), positions.to(self.device), embeds)

    def tokenise(self, text: str, literal: bool) -> list[int]:
        """The ids of a piece's text; in `literal` text, which users wrote, markers are plain characters."""
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
        return self._piece_ids(self.chat.answer_indent + text, True) + self._piece_ids(self.chat.turn_close, False)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of an answer's tokens, without the spaces that the chat format puts in front of answers."""
        return self.tokenizer.decode(ids, skip_special_tokens=True).removeprefix(self.chat.answer_indent)

    def generate(self, query: Query, memory: Memory | None = None, **settings: Any) -> Any:
        """Tokens of answers to one query, by transformers' own generation: see `emloc.backbones.generation`."""
        return generate(self, query, memory, **settings)
