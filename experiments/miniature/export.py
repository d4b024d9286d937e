"""Writes the embedded model's folder in Hugging Face format."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import GenerationConfig, PreTrainedTokenizerFast, Qwen2VLForConditionalGeneration
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from experiments.miniature.drawing import SIDE
from experiments.miniature.images import MERGE, PATCH, TEMPORAL
from experiments.miniature.vocabulary import save_labels


def image_processor() -> Qwen2VLImageProcessorPil:
    """The stock processor, set so that every square image becomes 32 x 32 pixels: 16 visual tokens."""
    pixels = SIDE * SIDE
    return Qwen2VLImageProcessorPil(
        patch_size=PATCH, merge_size=MERGE, temporal_patch_size=TEMPORAL, min_pixels=pixels, max_pixels=pixels
    )


def export(model: Qwen2VLForConditionalGeneration, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Model, tokenizer, processor, generation settings and label words into `folder`.

    Weights are stored as float16 (half the size), but the configuration says float32: that is what they are loaded as.
    """
    folder.mkdir(parents=True, exist_ok=True)
    end, nothing = tokenizer.convert_tokens_to_ids("<|im_end|>"), tokenizer.convert_tokens_to_ids("<|endoftext|>")
    model.generation_config = GenerationConfig(
        do_sample=False, max_new_tokens=16, eos_token_id=[end, nothing], pad_token_id=nothing, bos_token_id=nothing
    )
    model.save_pretrained(folder)
    weights = load_file(folder / "model.safetensors")
    halves = {name: tensor.to(torch.float16) for name, tensor in weights.items()}
    save_file(halves, folder / "model.safetensors", metadata={"format": "pt"})
    tokenizer.save_pretrained(folder, save_jinja_files=False)
    image_processor().save_pretrained(folder)
    (folder / "model.safetensors").chmod(0o644)  # safetensors writes files that only the owner may read
    save_labels(folder)


def folder_bytes(folder: Path) -> int:
    """Size of all files in `folder`."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def stored_dtype(folder: Path) -> str:
    """The dtype that the configuration asks for on loading."""
    return str(json.loads((folder / "config.json").read_text())["dtype"])
