"""Qwen2 and Qwen2.5."""

from emloc.backbones.text import TextBackbone


class Qwen2(TextBackbone):
    """Nothing of its own: what is special about its attention is inside transformers' module."""

    model_types = ("qwen2",)
