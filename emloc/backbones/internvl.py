"""InternVL3 and InternVL3.5, in Hugging Face format."""

from collections.abc import Iterable, Sequence

from PIL import Image
from torch import Tensor
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil

from emloc.backbones.images import ImageBackbone
from emloc.backbones.templates import ImageText


class InternVL(ImageBackbone):
    """The decoder is a Qwen2 or a Qwen3; pixel shuffle leaves 256 tokens of a tile of 448 x 448 pixels."""

    model_types = ("internvl",)
    processor_class = GotOcr2ImageProcessorPil

    @property
    def image_text(self) -> ImageText:
        return ImageText("<IMG_CONTEXT>", "<IMG_CONTEXT>", before="<img>", after="</img>")

    @property
    def tokens_per_image(self) -> int:
        return self.model.config.image_seq_length

    def tile_features(self, images: Sequence[Image.Image]) -> Iterable[Tensor]:
        pixels = self.image_processor(list(images), crop_to_patches=False, return_tensors="pt")["pixel_values"]
        return self.model.model.get_image_features(pixels.to(self.device)).pooler_output
