"""Qwen2-VL (the paper's model family) on stock transformers."""

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, islice
from operator import itemgetter
from typing import Any, ClassVar

import torch
from PIL import Image
from torch import Tensor
from transformers import AutoModelForImageTextToText
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from emloc.backbones.base import Backbone
from emloc.prompt import ChatFormat, TokenKind, Visual, load_frames
from emloc.video import Video


class Qwen2VL(Backbone):
    """Positions are three-axis mRoPE: a visual's tokens share few positions, text advances all axes alike."""

    model_types = ("qwen2_vl",)
    model_class = AutoModelForImageTextToText
    processor_class = Qwen2VLImageProcessorPil
    reads: ClassVar[tuple[str, ...]] = ("images", "videos")

    def read_chat(self) -> ChatFormat:
        return ChatFormat()

    def set_visual_tokens(self, count: int) -> None:
        edge = self.image_processor.patch_size * self.image_processor.merge_size
        self.image_processor.size = {"shortest_edge": count * edge**2, "longest_edge": count * edge**2}

    @property
    def decoder(self) -> Any:
        return self.model.model.language_model

    def rotation(self, hidden: Tensor, positions: Tensor) -> Any:
        return self.decoder.rotary_emb(hidden, positions)

    @property
    def frames_per_step(self) -> int:
        return self.image_processor.temporal_patch_size

    def visual_features(self, visuals: Iterable[Iterable[Image.Image]]) -> Iterator[tuple[Tensor, Tensor]]:
        steps = ((number, *step) for number, frames in enumerate(visuals) for step in self._steps(frames))
        for _, members in groupby(self._encoded(steps), key=itemgetter(0)):
            _, features, grids = zip(*members, strict=True)
            yield torch.cat(features), torch.tensor([len(grids), *grids[0].tolist()[1:]])

    def visual_size(self, visual: Visual) -> int:
        frames = load_frames(visual)
        grid = self._patches(next(frames))[1].tolist()  # all frames of a video have one size
        steps = math.ceil(visual.frames / self.frames_per_step) if isinstance(visual, Video) else 1
        return steps * math.prod(grid[1:]) // self.image_processor.merge_size**2

    def patch_features(self, pixel_values: Tensor, grids: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Features (N, C) and grid (3,) of every image in the patches (sum t*h*w, patch length) and grids (I, 3)."""
        output = self.model.model.get_image_features(pixel_values.to(self.device), grids.to(self.device))
        return list(zip(output.pooler_output, grids, strict=True))

    def positions(self, kinds: Tensor, grids: Sequence[Tensor]) -> Tensor:
        """Text advances all axes by one; behind a visual it goes on after the largest position of the three axes.

        That is how Qwen2-VL was published and trained. The `get_rope_index` of transformers 5 leaves time out there
        and goes on after the larger side of the frame: the same for images, and for videos of no more steps than that.
        """
        visual = kinds == TokenKind.IMAGE
        left, blocks, at, start = iter(grids), [], 0, 0
        while at < len(kinds):
            text = int((~visual[at:]).int().cumprod(0).sum())
            block = torch.arange(text).expand(3, -1) if text else self._grid_positions(next(left))
            blocks.append(block + start)
            at, start = at + block.shape[1], int(blocks[-1].max()) + 1
        return torch.cat(blocks, dim=1) if blocks else torch.zeros(3, 0, dtype=torch.int64)

    def _grid_positions(self, grid: Tensor) -> Tensor:
        """Step, row and column (3, t*h*w) of every visual token of a visual whose patches form this grid (3,)."""
        steps, rows, columns = grid.tolist()
        merge = self.model.config.vision_config.spatial_merge_size
        return torch.cartesian_prod(*map(torch.arange, (steps, rows // merge, columns // merge))).T

    def _encoded(self, steps: Iterator[tuple[int, Tensor, Tensor]]) -> Iterator[tuple[int, Tensor, Tensor]]:
        """The features of steps (number of the visual, patches, grid) in place of their patches.

        Attention in the vision tower stays within a step, so a video's steps are encoded like images.
        """
        while batch := list(islice(steps, self.steps_per_batch)):
            numbers, patches, grids = zip(*batch, strict=True)
            encoded = self.patch_features(torch.cat(patches), torch.stack(grids))
            yield from ((number, *visual) for number, visual in zip(numbers, encoded, strict=True))

    def _steps(self, frames: Iterable[Image.Image]) -> Iterator[tuple[Tensor, Tensor]]:
        """Patches (h*w, patch length) and grid (1, h, w) of every temporal step; a last odd frame is repeated."""
        left, size = iter(frames), self.frames_per_step
        while group := [self._patches(frame) for frame in islice(left, size)]:
            group += group[-1:] * (size - len(group))
            parts = [patches.unflatten(1, (-1, size, self.image_processor.patch_size**2)) for patches, _ in group]
            yield torch.stack([part[:, :, 0] for part in parts], dim=2).flatten(1), group[0][1]

    def _patches(self, frame: Image.Image) -> tuple[Tensor, Tensor]:
        """The image processor's patches (h*w, channels * steps * side * side), all steps alike, and grid (1, h, w)."""
        processed = self.image_processor(images=[frame], return_tensors="pt")
        return processed["pixel_values"], processed["image_grid_thw"][0]
