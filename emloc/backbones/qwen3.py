"""Qwen3 (dense)."""

from emloc.backbones.text import TextBackbone


class Qwen3(TextBackbone):
    """Nothing of its own: what is special about its attention is inside transformers' module."""

    model_types = ("qwen3",)
