"""LLaVA-OneVision (not 1.5, which is not in transformers)."""

from collections.abc import Iterable, Sequence

from PIL import Image
from torch import Tensor
from transformers.models.llava_onevision.image_processing_pil_llava_onevision import LlavaOnevisionImageProcessorPil

from emloc.backbones.images import ImageBackbone
from emloc.backbones.templates import ImageText


class LlavaOneVision(ImageBackbone):
    """The decoder is a Qwen2. Every image is read as in a prompt of several: padded to a square, one tile, a newline.

    The published processor reads the only image of a prompt in higher resolution (anyres); here a query's image is read
    as those of the demonstrations are.
    """

    model_types = ("llava_onevision",)
    processor_class = LlavaOnevisionImageProcessorPil

    @property
    def image_text(self) -> ImageText:
        return ImageText("<image>", "<image>")

    @property
    def tokens_per_image(self) -> int:
        vision = self.model.config.vision_config
        return (vision.image_size // vision.patch_size) ** 2 + 1

    def tile_features(self, images: Sequence[Image.Image]) -> Iterable[Tensor]:
        several = [*images, images[0]]  # two or more, or the processor takes a prompt of a single image
        processed = self.image_processor([several], return_tensors="pt")
        found = self.model.model.get_image_features(
            processed["pixel_values"].to(self.device), processed["image_sizes"], batch_num_images=[len(several)]
        )
        return found.pooler_output[:-1]
