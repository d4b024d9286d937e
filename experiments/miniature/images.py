"""Images for training the embedded model: a pool of drawings per class, distortions, and the processor's patch format.

Shapes: N images, S = 32 pixels a side. Images are uint8 (N, S, S); patches are float32 (N, 64, 96), bit for bit in the
order of transformers' Qwen2-VL image processor for patch 4, merge 2, temporal patch 2 and three equal channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from experiments.miniature import drawing

MEAN = (0.48145466, 0.4578275, 0.40821073)  # the processor's defaults (CLIP)
STD = (0.26862954, 0.26130258, 0.27577711)
PATCH, MERGE, TEMPORAL = 4, 2, 2
BLUR_SIDES = (8, 8, 10, 12, 16)


@dataclass(frozen=True)
class Pool:
    """Drawings by class: `images[first[c] + i]` is drawing i of class c."""

    images: Tensor  # uint8 (N, S, S)
    per_class: Tensor  # int64 (C,)
    first: Tensor  # int64 (C,)

    def __len__(self) -> int:
        return len(self.per_class)

    def draw(self, classes: Tensor, generator: torch.Generator) -> Tensor:
        """A random drawing of each of `classes` (any shape): indices into `images`, same shape."""
        chance = torch.rand(classes.shape, generator=generator)
        return self.first[classes] + (chance * self.per_class[classes]).long()


def make_pool(strokes: int, per_character: int, per_stroke: int, seed: int) -> Pool:
    """All training characters and `strokes` random stroke classes, drawn `per_character` / `per_stroke` times."""
    rng = np.random.default_rng(seed)
    characters = drawing.training_characters()
    images = [np.asarray(drawing.draw_character(c, rng)) for c in characters for _ in range(per_character)]
    for _ in range(strokes):
        shape = drawing.random_strokes(rng)
        images += [np.asarray(drawing.draw_strokes(shape, rng)) for _ in range(per_stroke)]
    counts = torch.tensor([per_character] * len(characters) + [per_stroke] * strokes)
    return Pool(torch.from_numpy(np.stack(images)), counts, counts.cumsum(0) - counts)


@cache
def _resize_matrix(source: int, target: int, method: Image.Resampling) -> Tensor:
    """PIL's (separable, linear) resize of one axis as a matrix, (target, source)."""
    basis = Image.fromarray(np.eye(source, dtype=np.float32))
    return torch.from_numpy(np.array(basis.resize((source, target), method)))


def blur(images: Tensor, side: int) -> Tensor:
    """Down to `side` pixels and back up as the image processor does it; float images in 0..255, (N, S, S)."""
    size = images.shape[-1]
    down = _resize_matrix(size, side, Image.Resampling.BOX)
    up = _resize_matrix(side, size, Image.Resampling.BICUBIC)
    small = (down @ images @ down.T).round()
    return (up @ small @ up.T).round().clamp(0, 255)


def _elastic_grid(count: int, strength: float, generator: torch.Generator) -> Tensor:
    """Smooth random displacement plus a random affine map, as a sampling grid (N, S, S, 2)."""
    noise = torch.randn(count, 2, 4, 4, generator=generator) * strength
    bend = F.interpolate(noise, size=drawing.SIDE, mode="bicubic", align_corners=True).permute(0, 2, 3, 1)
    affine = torch.eye(2).expand(count, 2, 2) + torch.randn(count, 2, 2, generator=generator) * 0.7 * strength
    shift = torch.randn(count, 2, 1, generator=generator) * 0.4 * strength
    theta = torch.cat((affine, shift), dim=2)
    return F.affine_grid(theta, [count, 1, drawing.SIDE, drawing.SIDE], align_corners=False) + bend


def distort(images: Tensor, generator: torch.Generator, *, strength: float) -> Tensor:
    """Handwriting-like distortion, (N, S, S) -> float (N, S, S) in 0..255; strength 0.1 bends by 1.6 pixels."""
    grid = _elastic_grid(len(images), strength, generator)
    return F.grid_sample(images[:, None].float(), grid, mode="bilinear", align_corners=False)[:, 0].clamp(0, 255)


def thicken(images: Tensor) -> Tensor:
    """Strokes made thicker by a 3 x 3 maximum, (N, S, S)."""
    return F.max_pool2d(images[:, None], 3, stride=1, padding=1)[:, 0]


def dress(images: Tensor, generator: torch.Generator) -> Tensor:
    """What one episode does to all its images: distort, perhaps thicken, perhaps blur (two thirds of the episodes)."""
    choice = torch.rand(4, generator=generator).tolist()
    dressed = distort(images, generator, strength=0.02 + 0.10 * choice[0])
    dressed = thicken(dressed) if choice[1] < 0.4 else dressed
    side = BLUR_SIDES[int(choice[2] * len(BLUR_SIDES))]
    return blur(dressed, side) if choice[3] < 0.65 else dressed.round()


def patches(images: Tensor) -> Tensor:
    """Grey images in 0..255, (N, S, S), to the processor's patches, float32 (N, 64, 96)."""
    mean, std = torch.tensor(MEAN), torch.tensor(STD)
    pixels = (images.float()[:, None] / 255 - mean[:, None, None]) / std[:, None, None]
    grid = drawing.SIDE // PATCH // MERGE
    blocks = pixels.view(-1, 3, grid, MERGE, PATCH, grid, MERGE, PATCH).permute(0, 2, 5, 3, 6, 1, 4, 7)
    repeated = blocks[:, :, :, :, :, :, None].expand(*blocks.shape[:6], TEMPORAL, PATCH, PATCH)
    return repeated.reshape(len(images), (grid * MERGE) ** 2, 3 * TEMPORAL * PATCH * PATCH)
