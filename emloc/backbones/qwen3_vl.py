"""Qwen3-VL."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from emloc.backbones.qwen2_vl import Qwen2VL
from emloc.backbones.templates import ImageText, chat_format
from emloc.prompt import ChatFormat, TokenKind
from emloc.rows import Row


class Qwen3VL(Qwen2VL):
    """Like Qwen2-VL, with features of inner vision layers that are added behind the lowest decoder layers (deepstack).

    `visual_features` gives the features of all levels of a visual side by side, those of the last layer first.
    Videos, which Qwen3-VL reads as single steps between written times, are not supported.
    """

    model_types = ("qwen3_vl",)
    reads = ("images",)

    def read_chat(self) -> ChatFormat:
        return chat_format(self.tokenizer, ImageText("<|image_pad|>", "<|image_pad|>"))

    def patch_features(self, pixel_values: Tensor, grids: Tensor) -> list[tuple[Tensor, Tensor]]:
        output = self.model.model.get_image_features(pixel_values.to(self.device), grids.to(self.device))
        levels = zip(output.pooler_output, *output.deepstack_features, strict=True)
        return [(torch.cat(parts, dim=1), grid) for parts, grid in zip(levels, grids, strict=True)]

    def build_row(self, ids: Tensor, kinds: Tensor, visuals: Sequence[tuple[Tensor, Tensor]]) -> Row:
        width, levels = self.text_config.hidden_size, len(self.model.config.vision_config.deepstack_visual_indexes)
        row = super().build_row(ids, kinds, [(features[:, :width], grid) for features, grid in visuals])
        added = row.embeds.new_zeros(levels, len(row), width)
        if visuals:
            deeper = torch.cat([features[:, width:] for features, _ in visuals]).to(added)
            added[:, row.kinds == TokenKind.IMAGE] = deeper.unflatten(1, (levels, width)).transpose(0, 1)
        return replace(row, added=added)
