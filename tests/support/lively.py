"""What the library's tests share: a small backbone with lively attention, and demonstrations to feed it."""

import random
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from emloc import Demonstration, Query, load_backbone
from emloc.backbones.base import Backbone
from tests.support.checkpoints import make_checkpoint

SHOTS = 9  # in chunks of four: two whole ones, and one of a single demonstration
ANSWERS = ("red", "a green bird", "blue, not grey")


def lively_backbone(folder: Path, *, layers: int = 4, seed: int = 0) -> Backbone:
    """Random weights as initialised hardly attend to anything; these are enlarged until the context decides."""
    backbone = load_backbone(make_checkpoint(folder, layers=layers, seed=seed), device="cpu")
    with torch.no_grad():
        for layer in backbone.layers:
            for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
                getattr(layer.self_attn, name).weight.mul_(7.0)
        backbone.model.get_input_embeddings().weight.mul_(20.0)
        backbone.model.lm_head.weight.mul_(10.0)
    return backbone


def random_image(seed: int, *, size: tuple[int, int] = (16, 16)) -> Image.Image:
    """Noise; `size` is (width, height)."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def demonstrations(count: int, *, seed: int = 0) -> list[Demonstration]:
    """Images of different shapes, questions and answers of different lengths."""
    chooser = random.Random(seed)
    shapes = ((16, 16), (24, 16), (16, 40))
    return [
        Demonstration(random_image(seed * 1000 + n, size=chooser.choice(shapes)), "What?" * (1 + n % 3), ANSWERS[n % 3])
        for n in range(count)
    ]


def queries(count: int, *, seed: int = 77) -> list[Query]:
    """Queries of different lengths, one of them without an image."""
    shown = [Query(item.visual, item.question) for item in demonstrations(count, seed=seed)]
    return [*shown[1:], Query(None, "And without an image?")]
