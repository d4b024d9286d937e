"""Llama and what is built like it, such as SmolLM2."""

from emloc.backbones.text import TextBackbone


class Llama(TextBackbone):
    """Nothing of its own: what is special about its attention is inside transformers' module."""

    model_types = ("llama",)
