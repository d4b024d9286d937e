"""Accuracy of an exported model in context, with stock transformers: `python -m experiments.miniature.evaluate FOLDER`.

All demonstrations stay in the context (a plain KV cache); every query is answered from it by one greedy token.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from inspect import signature
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_digits
from torch import Tensor
from transformers import DynamicCache, PreTrainedTokenizerFast, Qwen2VLForConditionalGeneration
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from experiments.miniature.drawing import HELD_OUT_CHARACTERS, draw_character
from experiments.miniature.vocabulary import SYSTEM

QUESTION = "What is this?"
VISUAL = 16


@dataclass(frozen=True)
class Task:
    """Images with class numbers, and a word for each class."""

    images: Sequence[Image.Image]
    classes: np.ndarray  # int (N,)
    words: Sequence[str]


def digits(labels: Sequence[str]) -> Task:
    """scikit-learn's 1,797 handwritten digits, under their English names."""
    data = load_digits()
    images = [Image.fromarray(np.uint8(255 / 16 * picture)) for picture in data.images]
    return Task(images, np.asarray(data.target), labels[:10])


def glyphs(labels: Sequence[str], per_class: int = 12, seed: int = 100) -> Task:
    """The held-out characters, `per_class` drawings each, under code words."""
    rng = np.random.default_rng(seed)
    images = [draw_character(c, rng) for c in HELD_OUT_CHARACTERS for _ in range(per_class)]
    classes = np.repeat(np.arange(len(HELD_OUT_CHARACTERS)), per_class)
    return Task(images, classes, [labels[10 + i] for i in range(len(HELD_OUT_CHARACTERS))])


def split(task: Task, per_class: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices of class-balanced demonstrations in random order, and of all other images."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(task.classes))
    chosen = np.concatenate([order[task.classes[order] == c][:per_class] for c in np.unique(task.classes)])
    return rng.permutation(chosen), np.setdiff1d(np.arange(len(task.classes)), chosen)


def demonstration(label: str | None) -> str:
    """Chat text of a demonstration, or (without label) of a query."""
    text = f"<|im_start|>user\n<|vision_start|>{'<|image_pad|>' * VISUAL}<|vision_end|>{QUESTION}<|im_end|>\n"
    return text + "<|im_start|>assistant\n" + (f"{label}<|im_end|>\n" if label is not None else "")


class Student:
    """An exported model with its tokenizer and image processor."""

    def __init__(self, folder: Path, device: str = "cpu") -> None:
        self.model = Qwen2VLForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval().to(device)
        self.tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
        self.processor = Qwen2VLImageProcessorPil.from_pretrained(folder)
        self.labels: list[str] = json.loads((folder / "labels.json").read_text())

    def inputs(self, text: str, images: Sequence[Image.Image]) -> dict[str, Tensor]:
        """Model inputs of one text with its images in order."""
        ids = torch.tensor([self.tokenizer(text)["input_ids"]], device=self.model.device)
        kind = (ids == self.model.config.image_token_id).int()
        pixels = self.processor(images=list(images), return_tensors="pt").to(self.model.device)
        return {"input_ids": ids, "mm_token_type_ids": kind, **pixels}

    @torch.no_grad()
    def context(self, images: Sequence[Image.Image], labels: Sequence[str]) -> tuple[DynamicCache, int]:
        """The KV cache of all demonstrations behind the system turn, and the next free position."""
        text = f"<|im_start|>system\n{SYSTEM}<|im_end|>\n" + "".join(demonstration(label) for label in labels)
        inputs = self.inputs(text, images)
        cache = DynamicCache(config=self.model.config.get_text_config())
        grid = inputs["image_grid_thw"]
        positions, _ = self.model.model.get_rope_index(inputs["input_ids"], inputs["mm_token_type_ids"], grid)
        self.model.model(**inputs, **self._held(cache), position_ids=positions, use_cache=True)
        return cache, int(positions.max()) + 1

    @torch.no_grad()
    def answer(self, cache: DynamicCache | None, offset: int, images: Sequence[Image.Image]) -> Tensor:
        """Logits of the first answer token of each image (N, vocabulary), all queries in one batch behind `cache`."""
        single = self.inputs(demonstration(None), images[:1])
        positions, _ = self.model.model.get_rope_index(
            single["input_ids"], single["mm_token_type_ids"], single["image_grid_thw"]
        )
        inputs = self.inputs(demonstration(None), images)
        for name in ("input_ids", "mm_token_type_ids"):
            inputs[name] = inputs[name].expand(len(images), -1)
        copy = None
        if cache is not None:
            layers = [(layer.keys.expand(len(images), -1, -1, -1), layer.values.expand(len(images), -1, -1, -1))
                      for layer in cache.layers]  # fmt: skip
            copy = DynamicCache(layers, config=self.model.config.get_text_config())
        positions = (positions + offset).expand(3, len(images), -1)
        out = self.model.model(**inputs, **self._held(copy), position_ids=positions, use_cache=True)
        return self.model.lm_head(out.last_hidden_state[:, -1])

    def _held(self, cache: DynamicCache | None) -> dict[str, DynamicCache | None]:
        """The cache under the name that transformers gives it: `cache` from 5.24 on."""
        return {"cache" if "cache" in signature(self.model.model.forward).parameters else "past_key_values": cache}


def accuracy(
    student: Student, task: Task, per_class: int, *, seed: int = 0, limit: int | None = None, batch: int = 16
) -> float:
    """Share of right answers (over the whole vocabulary) on all images that are not demonstrations."""
    chosen, queries = split(task, per_class, seed)
    if limit is not None:
        queries = np.random.default_rng(seed).permutation(queries)[:limit]
    cache, offset = None, 0
    if per_class:
        cache, offset = student.context([task.images[i] for i in chosen], [task.words[task.classes[i]] for i in chosen])
    ids = torch.tensor([student.tokenizer.convert_tokens_to_ids(word) for word in task.words])
    right = 0
    for part in np.array_split(queries, -(-len(queries) // batch)):
        logits = student.answer(cache, offset, [task.images[i] for i in part])
        right += int((logits.argmax(-1).cpu() == ids[task.classes[part]]).sum())
    return right / len(queries)


def report(
    folder: Path, *, limit: int | None = None, seeds: Sequence[int] = (0,), device: str = "cpu"
) -> dict[str, float]:
    """Accuracies by task and number of demonstrations, means over `seeds`."""
    student = Student(folder, device)
    rows = [("digits", digits(student.labels), n) for n in (0, 1, 2, 5, 10, 20)]
    rows.append(("glyphs100", glyphs(student.labels), 2))
    result = {}
    for name, task, shots in rows:
        values = [accuracy(student, task, shots, seed=seed, limit=limit) for seed in seeds]
        key = f"{name}@{shots * len(task.words)}"
        result[key] = float(np.mean(values))
        print(f"{key}: {result[key]:.3f}", flush=True)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--limit", type=int, help="only so many queries per row (all)")
    parser.add_argument("--seeds", type=int, default=1, help="draws of the demonstrations (1)")
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    report(arguments.folder, limit=arguments.limit, seeds=range(arguments.seeds), device=arguments.device)


if __name__ == "__main__":
    main()
