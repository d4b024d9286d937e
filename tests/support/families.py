"""Every model family once: a small random checkpoint of the real architecture, and what plain transformers is fed.

Nothing here is taken from the families' files: texts come from chat templates, images from image processors.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText, PreTrainedTokenizerFast
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil
from transformers.models.llava_onevision.image_processing_pil_llava_onevision import LlavaOnevisionImageProcessorPil
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil

from emloc import Demonstration, Query, load_backbone
from emloc.backbones.base import Backbone
from tests.support import templates

CHATML = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
QWEN_VISION = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
PATCH, MERGE, SIDE = 4, 2, 16  # a Qwen token covers 8 x 8 pixels; a tile has 16 x 16
TEXT = {
    "hidden_size": 64, "intermediate_size": 80, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 4096, "tie_word_embeddings": False,
    "bos_token_id": None,
}  # fmt: skip
MROPE = {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [2, 3, 3]}}
Item = Demonstration | Query


@dataclass(frozen=True)
class Family:
    """A row of the table family x check.

    Attributes
    ----------
    config
        From the number of tokens and the ids of the special ones, all but `model_type`.
    images
        From the image processor and images: what the model takes besides ids, and the text of every image.
    marker
        What the chat template writes for an image.
    """

    name: str
    template: str
    special: tuple[str, ...]
    config: Callable[[int, Callable[[str], int]], dict[str, Any]]
    turn_end: str = "<|im_end|>"
    processor: Any = None
    images: Callable[[Any, list[Any]], tuple[dict[str, Any], list[str]]] | None = None
    marker: str = "<image>"
    label: str = ""
    seed: int = 0

    def __str__(self) -> str:
        return self.label or self.name

    def save(self, folder: Path) -> Path:
        """Write a checkpoint of random weights."""
        tokenizer = self.tokenizer()
        settings = self.config(len(tokenizer), tokenizer.convert_tokens_to_ids)
        torch.manual_seed(self.seed)
        auto = AutoModelForCausalLM if self.processor is None else AutoModelForImageTextToText
        model = auto.from_config(AutoConfig.for_model(self.name, **settings), dtype=torch.float32)
        model.generation_config.eos_token_id = tokenizer.eos_token_id
        model.generation_config.pad_token_id = tokenizer.pad_token_id
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        if self.processor is not None:
            self.processor.save_pretrained(folder)
        return folder

    def tokenizer(self) -> PreTrainedTokenizerFast:
        """Byte-level, trained on a few words."""
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=400, special_tokens=list(self.special), show_progress=False,
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        )  # fmt: skip
        tokenizer.train_from_iterator(
            ["user assistant system User Assistant What is this? A green bird, not grey."], trainer
        )
        return PreTrainedTokenizerFast(
            tokenizer_object=tokenizer,
            eos_token=self.turn_end,
            pad_token=self.special[0],
            additional_special_tokens=list(self.special[1:]),
            chat_template=self.template,
            clean_up_tokenization_spaces=False,
        )

    def lively(self, folder: Path) -> Backbone:
        """The checkpoint, loaded, its weights enlarged until context and images decide what it says."""
        backbone = load_backbone(self.save(folder), device="cpu")
        with torch.no_grad():
            for layer in backbone.layers:
                for name, weight in layer.self_attn.named_parameters():
                    weight.mul_(3.0 if "norm" in name else 7.0)
            backbone.model.get_input_embeddings().weight.mul_(20.0)
            backbone.model.get_output_embeddings().weight.mul_(10.0)
            for name, weight in backbone.model.named_parameters():
                if any(part in name for part in ("merger", "projector", "connector")) and weight.dim() == 2:
                    weight.mul_(5.0)
        return backbone

    def stock_inputs(self, backbone: Backbone, items: Sequence[Item]) -> dict[str, Any]:
        """What a user of plain transformers would feed: the conversation as the template writes it, and the images."""
        text = backbone.tokenizer.apply_chat_template(
            [message for item in items for message in self._messages(item)],
            tokenize=False, add_generation_prompt=isinstance(items[-1], Query), enable_thinking=False,
        )  # fmt: skip
        shown = [item.visual for item in items if item.visual is not None]
        inputs: dict[str, Any] = {}
        if shown and self.images is not None:
            inputs, written = self.images(backbone.image_processor, shown)
            assert text.count(self.marker) == len(written)
            parts = text.split(self.marker)
            text = parts[0] + "".join(image + part for image, part in zip(written, parts[1:], strict=True))
        ids = torch.tensor([backbone.tokenizer(text, add_special_tokens=False).input_ids])
        if "image_grid_thw" in inputs:
            inputs["mm_token_type_ids"] = (ids == backbone.model.config.image_token_id).long()
        return {"input_ids": ids, **inputs}

    def _messages(self, item: Item) -> list[dict[str, Any]]:
        turns = [("user", item.question)] + ([("assistant", item.answer)] if isinstance(item, Demonstration) else [])
        if self.images is None:
            return [{"role": role, "content": text} for role, text in turns]
        found: list[dict[str, Any]] = [
            {"role": role, "content": [{"type": "text", "text": text}]} for role, text in turns
        ]
        if item.visual is not None:
            found[0]["content"].insert(0, {"type": "image"})
        return found


def cache_name(module: Any) -> str:
    """What a model, or a decoder layer, calls its cache: `cache` from transformers 5.24 on."""
    return "cache" if "cache" in signature(module.forward).parameters else "past_key_values"


def _qwen_images(processor: Any, images: list[Any]) -> tuple[dict[str, Any], list[str]]:
    processed = processor(images=images, return_tensors="pt")
    counts = processed["image_grid_thw"].prod(-1) // MERGE**2
    return dict(processed), ["<|image_pad|>" * count for count in counts.tolist()]


def _internvl_images(processor: Any, images: list[Any]) -> tuple[dict[str, Any], list[str]]:
    pixels = processor(images, crop_to_patches=False, return_tensors="pt")["pixel_values"]
    return {"pixel_values": pixels}, [f"<img>{'<IMG_CONTEXT>' * 4}</img>"] * len(images)


def _llava_images(processor: Any, images: list[Any]) -> tuple[dict[str, Any], list[str]]:
    """Plain transformers reads a prompt of one image in another way: give two or more."""
    assert len(images) > 1
    return dict(processor([images], return_tensors="pt")), ["<image>" * (16 + 1)] * len(images)


def _smolvlm_images(processor: Any, images: list[Any]) -> tuple[dict[str, Any], list[str]]:
    around = "<fake_token_around_image>"
    processed = processor([images], do_image_splitting=False, return_tensors="pt")
    return dict(processed), [f"{around}<global-img>{'<image>' * 4}{around}"] * len(images)


def _text_config(size: int, _: Callable[[str], int]) -> dict[str, Any]:
    return {"vocab_size": size, **TEXT}


def _qwen_vl_config(vision: dict[str, Any]) -> Callable[[int, Callable[[str], int]], dict[str, Any]]:
    def config(size: int, id_of: Callable[[str], int]) -> dict[str, Any]:
        return {
            "text_config": {"vocab_size": size, **TEXT, **MROPE},
            "vision_config": {
                "depth": 3, "hidden_size": 32, "num_heads": 2, "patch_size": PATCH, "spatial_merge_size": MERGE,
                "temporal_patch_size": 2, **vision,
            },
            "image_token_id": id_of("<|image_pad|>"),
            "video_token_id": id_of("<|video_pad|>"),
            "vision_start_token_id": id_of("<|vision_start|>"),
            "vision_end_token_id": id_of("<|vision_end|>"),
            "tie_word_embeddings": False,
        }  # fmt: skip

    return config


def _tiled_config(
    token: str, text_type: str, vision: dict[str, Any], **more: Any
) -> Callable[[int, Callable[[str], int]], dict[str, Any]]:
    def config(size: int, id_of: Callable[[str], int]) -> dict[str, Any]:
        return {
            "text_config": {"model_type": text_type, "vocab_size": size, "pad_token_id": 0, **TEXT},
            "vision_config": {
                "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2,
                "image_size": SIDE, "patch_size": PATCH, **vision,
            },
            "image_token_id": id_of(token),
            "tie_word_embeddings": False,
            **more,
        }  # fmt: skip

    return config


_SQUARE = {"height": SIDE, "width": SIDE}
_QWEN: dict[str, Any] = {
    "special": (*CHATML, *QWEN_VISION), "images": _qwen_images, "marker": "<|image_pad|>",
    "processor": Qwen2VLImageProcessorPil(
        patch_size=PATCH, merge_size=MERGE, size={"shortest_edge": 256, "longest_edge": 384}
    ),
}  # fmt: skip
_QWEN2_VISION = {"embed_dim": 32, "hidden_size": 64}
_QWEN25_VISION = {
    "intermediate_size": 48,
    "window_size": 16,
    "tokens_per_second": 4,
    "out_hidden_size": 64,
    "fullatt_block_indexes": [1],
}
_QWEN3_VISION = {
    "intermediate_size": 48, "out_hidden_size": 64, "num_position_embeddings": 64, "deepstack_visual_indexes": [0, 1],
}  # fmt: skip
_INTERNVL_VISION = {"image_size": [SIDE, SIDE], "patch_size": [PATCH, PATCH]}
_INTERNVL: dict[str, Any] = {
    "special": (*CHATML, "<img>", "<IMG_CONTEXT>", "</img>"), "processor": GotOcr2ImageProcessorPil(size=_SQUARE),
    "images": _internvl_images, "marker": "<IMG_CONTEXT>",
}  # fmt: skip
_LLAVA = _tiled_config(
    "<image>", "qwen2", {"model_type": "siglip_vision_model"}, video_token_index=1, vision_feature_layer=-1,
    image_grid_pinpoints=[[SIDE, SIDE], [SIDE, 2 * SIDE]],
)  # fmt: skip

FAMILIES = (
    Family("llama", templates.SMOLLM2, CHATML, _text_config),
    Family("qwen2", templates.QWEN2, CHATML, _text_config),
    Family("qwen3", templates.QWEN3, CHATML, _text_config),
    Family("qwen2_vl", templates.QWEN2_VL, config=_qwen_vl_config(_QWEN2_VISION), **_QWEN),
    Family("qwen2_5_vl", templates.QWEN2_VL, config=_qwen_vl_config(_QWEN25_VISION), seed=1, **_QWEN),
    Family("qwen3_vl", templates.QWEN3_VL, config=_qwen_vl_config(_QWEN3_VISION), **_QWEN),
    *(
        Family(
            "internvl", templates.INTERNVL, label=label, **_INTERNVL,
            config=_tiled_config("<IMG_CONTEXT>", text, _INTERNVL_VISION, image_seq_length=4),
        )
        for label, text in (("internvl3", "qwen2"), ("internvl3_5", "qwen3"))
    ),
    Family(
        "llava_onevision", templates.LLAVA_ONEVISION, (*CHATML, "<image>"), _LLAVA,
        processor=LlavaOnevisionImageProcessorPil(size=_SQUARE), images=_llava_images,
    ),
    Family(
        "smolvlm", templates.SMOLVLM,
        ("<|im_end|>", "<|im_start|>", "<end_of_utterance>", "<fake_token_around_image>", "<global-img>", "<image>"),
        _tiled_config("<image>", "llama", {}, scale_factor=2), turn_end="<end_of_utterance>",
        processor=SmolVLMImageProcessorPil(size={"longest_edge": SIDE}, max_image_size={"longest_edge": SIDE}),
        images=_smolvlm_images,
    ),
)  # fmt: skip
