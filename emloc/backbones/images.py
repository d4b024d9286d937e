"""What families share whose images take the same number of tokens whatever their size."""

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Any

from PIL import Image
from torch import Tensor
from transformers import AutoModelForImageTextToText

from emloc.backbones.base import Backbone
from emloc.backbones.templates import ImageText, chat_format
from emloc.errors import UserError
from emloc.prompt import ChatFormat, Visual


class ImageBackbone(Backbone):
    """One tile per image and one axis of positions.

    Published processors cut a large image into tiles of hundreds of tokens each; many-shot contexts have no room for
    that, so every image is one tile here, as these processors have it for videos or for prompts of many images.
    """

    model_class = AutoModelForImageTextToText
    reads = ("images",)

    @property
    def decoder(self) -> Any:
        return self.model.model.language_model

    @property
    @abstractmethod
    def image_text(self) -> ImageText:
        """How an image is written."""

    @property
    @abstractmethod
    def tokens_per_image(self) -> int:
        """Visual tokens of every image."""

    @abstractmethod
    def tile_features(self, images: Sequence[Image.Image]) -> Iterable[Tensor]:
        """Features (N, C) of every image."""

    def read_chat(self) -> ChatFormat:
        return chat_format(self.tokenizer, self.image_text)

    def set_visual_tokens(self, count: int) -> None:
        if count != self.tokens_per_image:
            raise UserError(
                f"Expected visual_tokens to be {self.tokens_per_image}, as {self.model.config.model_type} uses for "
                f"every image, but got {count}; give that number, or leave it to the checkpoint."
            )

    def visual_size(self, visual: Visual) -> int:
        return self.tokens_per_image

    def visual_features(self, visuals: Iterable[Iterable[Image.Image]]) -> Iterator[tuple[Tensor, Any]]:
        images = chain.from_iterable(visuals)  # an image is its own only frame
        while batch := list(islice(images, self.steps_per_batch)):
            yield from ((features, None) for features in self.tile_features(batch))
