"""Small random-weight checkpoints of the real architectures, in Hugging Face format, for tests without a download."""

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen2VLConfig, Qwen2VLForConditionalGeneration
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

SPECIAL = (
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>",
    "<|video_pad|>",
)  # fmt: skip
PATCH, MERGE = 4, 2  # a visual token covers 8 x 8 pixels


def make_checkpoint(
    folder: Path,
    *,
    layers: int = 4,
    seed: int = 0,
    label_words: Sequence[str] = (),
    visual_tokens: int = 4,
    dtype: torch.dtype = torch.float32,
) -> Path:
    """Write a Qwen2-VL of random weights, its tokenizer and its image processor; returns `folder`.

    `label_words`: each becomes one token, and `labels.json` says that the model answers with nothing else.
    `visual_tokens`: every image is resized to about as many.
    """
    tokenizer = make_tokenizer(label_words)
    torch.manual_seed(seed)
    model = Qwen2VLForConditionalGeneration(make_config(tokenizer, layers=layers))
    model.to(dtype).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    pixels = visual_tokens * (PATCH * MERGE) ** 2
    size = {"shortest_edge": pixels, "longest_edge": pixels}
    Qwen2VLImageProcessorPil(patch_size=PATCH, merge_size=MERGE, size=size).save_pretrained(folder)
    if label_words:
        (folder / "labels.json").write_text(json.dumps(list(label_words)))
    return folder


def make_tokenizer(words: Sequence[str] = ()) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer with Qwen2-VL's special tokens; each of `words` is one token after a newline."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=4096, min_frequency=2, special_tokens=list(SPECIAL), initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator([*words, *words], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=list(SPECIAL[1:]),
        clean_up_tokenization_spaces=False,
    )


def make_config(tokenizer: PreTrainedTokenizerFast, *, layers: int) -> Qwen2VLConfig:
    """Two KV heads of two query heads each, head size 16, mRoPE of three sections."""
    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in SPECIAL}
    text = {
        "vocab_size": len(tokenizer), "hidden_size": 64, "intermediate_size": 80, "num_hidden_layers": layers,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 32768,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [2, 3, 3]},
        "bos_token_id": None, "eos_token_id": ids["<|im_end|>"], "pad_token_id": ids["<|endoftext|>"],
    }  # fmt: skip
    vision = {
        "depth": 1, "embed_dim": 32, "hidden_size": 64, "num_heads": 2, "in_channels": 3, "patch_size": PATCH,
        "spatial_merge_size": MERGE, "temporal_patch_size": 2,
    }  # fmt: skip
    return Qwen2VLConfig(
        text_config=text,
        vision_config=vision,
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
        tie_word_embeddings=False,
    )
