"""The embedded model's shape: a small stock Qwen2-VL."""

from __future__ import annotations

from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration

VISION_WIDTH, VISION_DEPTH, VISION_HEADS = 128, 4, 4
HIDDEN, HEADS, KV_HEADS, LAYERS, MLP = 256, 4, 2, 8, 384
ROPE_THETA = 1e8  # slow enough that content can be matched 5,000 positions away in more than half of a head
MROPE_SECTION = (8, 12, 12)


def make_config(vocab_size: int, tokens: dict[str, int]) -> Qwen2VLConfig:
    """The model's configuration; `tokens` maps Qwen2-VL's special tokens to ids."""
    text = {
        "vocab_size": vocab_size, "hidden_size": HIDDEN, "intermediate_size": MLP, "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS, "max_position_embeddings": 32768,
        "rope_parameters": {"rope_type": "default", "rope_theta": ROPE_THETA, "mrope_section": list(MROPE_SECTION)},
        "bos_token_id": tokens["<|endoftext|>"], "eos_token_id": tokens["<|im_end|>"],
        "pad_token_id": tokens["<|endoftext|>"], "tie_word_embeddings": True,
    }  # fmt: skip
    vision = {
        "depth": VISION_DEPTH, "embed_dim": VISION_WIDTH, "hidden_size": HIDDEN, "num_heads": VISION_HEADS,
        "mlp_ratio": 4, "in_channels": 3, "patch_size": 4, "spatial_merge_size": 2, "temporal_patch_size": 2,
    }  # fmt: skip
    return Qwen2VLConfig(
        text_config=text,
        vision_config=vision,
        image_token_id=tokens["<|image_pad|>"],
        video_token_id=tokens["<|video_pad|>"],
        vision_start_token_id=tokens["<|vision_start|>"],
        vision_end_token_id=tokens["<|vision_end|>"],
        tie_word_embeddings=True,
    )


def make_model(vocab_size: int, tokens: dict[str, int]) -> Qwen2VLForConditionalGeneration:
    """A model with random weights (seed torch first)."""
    return Qwen2VLForConditionalGeneration(make_config(vocab_size, tokens))
