"""SmolVLM and SmolVLM2."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil

from emloc.backbones.images import ImageBackbone
from emloc.backbones.templates import ImageText


class SmolVLM(ImageBackbone):
    """The decoder is a Llama. An image is the tile that the processor calls global: squeezed into a square."""

    model_types = ("smolvlm",)
    processor_class = SmolVLMImageProcessorPil

    @property
    def decoder(self) -> Any:
        return self.model.model.text_model

    @property
    def image_text(self) -> ImageText:
        around = "<fake_token_around_image>"
        return ImageText("<image>", "<image>", before=f"{around}<global-img>", after=around)

    @property
    def tokens_per_image(self) -> int:
        return self.model.model.image_seq_len

    def tile_features(self, images: Sequence[Image.Image]) -> Iterable[Tensor]:
        processed = self.image_processor([list(images)], do_image_splitting=False, return_tensors="pt")
        pixels, seen = (processed[name].to(self.device) for name in ("pixel_values", "pixel_attention_mask"))
        found = self.model.model.get_image_features(pixels, seen).pooler_output
        # One part per image in transformers 5.19, one of all images from 5.20 on.
        return torch.cat([*found]).unflatten(0, (-1, self.tokens_per_image))
