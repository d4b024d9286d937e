"""Qwen2-VL (the paper's model family) on stock transformers."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoTokenizer, Qwen2VLForConditionalGeneration
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from emloc.backbones.base import Backbone
from emloc.errors import UserError
from emloc.prompt import TokenKind


class Qwen2VL(Backbone):
    """Positions are three-axis mRoPE: an image's tokens share few positions, text advances all axes alike."""

    model_types = ("qwen2_vl",)

    @classmethod
    def load(cls, source: str | Path, dtype: torch.dtype | str) -> tuple[Any, Any, Any]:
        # The tokenizer and the PIL image processor are composed here: AutoProcessor wants torchvision, for video.
        model, info = Qwen2VLForConditionalGeneration.from_pretrained(source, dtype=dtype, output_loading_info=True)
        if info["missing_keys"] or info["mismatched_keys"]:
            missing = sorted([*info["missing_keys"], *(str(key) for key in info["mismatched_keys"])])
            raise UserError(
                f"Expected complete weights at {source}, but {len(missing)} tensors are missing or of another shape "
                f"({missing[0]}, ...); download the checkpoint again."
            )
        return model, AutoTokenizer.from_pretrained(source), Qwen2VLImageProcessorPil.from_pretrained(source)

    def set_visual_tokens(self, count: int) -> None:
        edge = self.image_processor.patch_size * self.image_processor.merge_size
        self.image_processor.size = {"shortest_edge": count * edge**2, "longest_edge": count * edge**2}

    @property
    def text_config(self) -> Any:
        return self.model.config.text_config

    @property
    def layers(self) -> nn.ModuleList:
        return self.model.model.language_model.layers

    def embed(self, ids: Tensor) -> Tensor:
        return self.model.get_input_embeddings()(ids)

    def rotation(self, hidden: Tensor, positions: Tensor) -> Any:
        return self.model.model.language_model.rotary_emb(hidden, positions)

    def final_norm(self, hidden: Tensor) -> Tensor:
        return self.model.model.language_model.norm(hidden)

    def image_features(self, images: Sequence[Any]) -> list[tuple[Tensor, Tensor]]:
        processed = self.image_processor(images=list(images), return_tensors="pt")
        return self.patch_features(processed["pixel_values"], processed["image_grid_thw"])

    def patch_features(self, pixel_values: Tensor, grids: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Features (N, C) and grid (3,) of every image in the patches (sum t*h*w, patch length) and grids (I, 3)."""
        output = self.model.model.get_image_features(pixel_values.to(self.device), grids.to(self.device))
        return list(zip(output.pooler_output, grids, strict=True))

    def positions(self, kinds: Tensor, grids: Sequence[Tensor]) -> Tensor:
        is_image = (kinds == TokenKind.IMAGE).long()[None]
        grid = torch.stack(list(grids)).cpu() if grids else None
        found, _ = self.model.model.get_rope_index(torch.zeros_like(is_image), is_image, image_grid_thw=grid)
        return found[:, 0]
