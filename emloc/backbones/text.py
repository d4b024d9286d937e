"""What families that read text only share."""

from collections.abc import Iterable, Iterator
from typing import Any

from PIL import Image
from torch import Tensor
from transformers import AutoModelForCausalLM

from emloc.backbones.base import Backbone
from emloc.backbones.templates import chat_format
from emloc.errors import UserError
from emloc.prompt import ChatFormat, Visual


class TextBackbone(Backbone):
    """A decoder alone: one axis of positions, and the chat template of its tokenizer."""

    model_class = AutoModelForCausalLM

    @property
    def decoder(self) -> Any:
        return self.model.model

    def read_chat(self) -> ChatFormat:
        return chat_format(self.tokenizer)

    def set_visual_tokens(self, count: int) -> None:
        raise UserError(
            f"Expected no visual_tokens, for {self.model.config.model_type} reads text only, but got {count}; leave it "
            "out, or choose a model that reads images."
        )

    def visual_size(self, visual: Visual) -> int:
        return 0

    def visual_features(self, visuals: Iterable[Iterable[Image.Image]]) -> Iterator[tuple[Tensor, Any]]:
        """None: `encode` refuses whatever is not text."""
        return iter(())
