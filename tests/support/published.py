"""Small local copies of the published benchmarks: invented rows in the real columns and types."""

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from datasets import Features, List, Value
from PIL import Image

from experiments.datasets.illusionvqa_comprehension import IllusionVQAComprehension
from experiments.datasets.illusionvqa_soft_localization import IllusionVQASoftLocalization
from experiments.datasets.mme_realworld_lite import MMERealWorldLite
from experiments.datasets.ok_vqa import OKVQA
from experiments.datasets.published import Published
from experiments.datasets.screenspot import ScreenSpot

datasets.disable_progress_bars()

Rows = list[dict[str, Any]]


def picture(seed: int, *, kind: str = "PNG") -> bytes:
    """The file of an image of 24 x 16 pixels of noise."""
    pixels = np.random.default_rng(seed).integers(0, 256, (16, 24, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def stored(seed: int) -> dict[str, Any]:
    """An image as `datasets` stores it."""
    return {"bytes": picture(seed), "path": f"{seed}.png"}


def soft_localization(number: int) -> dict[str, Any]:
    options = ["Left", "Right", "Both", "Neither"]
    return {
        "image": stored(number), "question": "Which of the two could not be built?", "options": options,
        "answer": options[number % 4], "category": ["impossible", "possible"][number % 2], "reasoning": "",
        "id": f"{number}",
    }  # fmt: skip


def comprehension(number: int) -> dict[str, Any]:
    options = [f"Thing {number}.{option}" for option in range(3 + number % 4)]
    return {
        "image": stored(number), "question": f"What is in drawing {number}?", "options": options,
        "answer": options[number % 3], "category": ["colour", "depth", "colour"][number % 3], "reasoning": "",
        "id": f"{number}",
    }  # fmt: skip


def realworld(number: int) -> dict[str, Any]:
    places = ("perception/OCR with Complex Context", "reasoning/Monitoring", "perception/Autonomous_Driving")
    tasks = ("Scene Text", "vehicle/attribute/orientation", "Motion/Pedestrian")
    return {
        "bytes": base64.b64encode(picture(number, kind="JPEG")).decode(), "question": f"What does sign {number} say?",
        "multi-choice options": [f"({letter}) word {number}{letter}" for letter in "ABCD"] + ["(E) Not in the image."],
        "answer": "ABCDE"[number % 5], "index": number, "category": places[number % 3],
        "l2-category": tasks[number % 3],
    }  # fmt: skip


def ok_vqa(number: int) -> dict[str, Any]:
    said = [f"thing {number}"] * 4 + ["Two cats", "dont know"] * 3
    return {
        "question_id": f"{number}5", "image": stored(number), "question": f"What is thing {number} for?",
        "answers": said, "question_type": ["four", "nine"][number % 2], "answer_type": "other",
    }  # fmt: skip


def screenspot(number: int) -> dict[str, Any]:
    source = ("ios", "android", "macos", "windows", "gitlab", "shop")[number % 6]
    left = 0.1 + 0.2 / 3 + number / 100
    return {
        "file_name": f"screen{number}.png", "bbox": [left, 0.25, left + 0.2, 0.5], "image": stored(number),
        "instruction": f"open thing {number}", "data_type": ["text", "icon"][number % 2], "data_source": source,
    }  # fmt: skip


@dataclass(frozen=True)
class Benchmark:
    """A benchmark of the paper: how a row is made, and the types of its columns."""

    dataset: type[Published]
    row: Callable[[int], dict[str, Any]]
    features: Mapping[str, Any]

    def rows(self, count: int) -> Rows:
        """Rows 0 to `count` - 1."""
        return [self.row(number) for number in range(count)]

    def table(self, rows: Sequence[Mapping[str, Any]]) -> datasets.Dataset:
        """The rows in the real columns, without those that the first row has not."""
        features = {name: feature for name, feature in self.features.items() if name in rows[0]}
        return datasets.Dataset.from_list(list(rows), features=Features(features))

    def write(self, folder: Path, rows: Sequence[Mapping[str, Any]], *, name: str = "") -> Path:
        """A folder as `hf download` leaves it, with one parquet file of the split."""
        file = folder / "data" / (name or f"{self.dataset.split}-00000-of-00001.parquet")
        file.parent.mkdir(parents=True, exist_ok=True)
        self.table(rows).to_parquet(str(file))
        return folder


_TEXT, _TEXTS, _IMAGE = Value("string"), List(Value("string")), datasets.Image()
_ILLUSION = {
    "image": _IMAGE, "question": _TEXT, "options": _TEXTS, "answer": _TEXT, "category": _TEXT, "reasoning": _TEXT,
    "id": _TEXT,
}  # fmt: skip
BENCHMARKS = {
    benchmark.dataset.name: benchmark
    for benchmark in (
        Benchmark(IllusionVQASoftLocalization, soft_localization, _ILLUSION),
        Benchmark(IllusionVQAComprehension, comprehension, _ILLUSION),
        Benchmark(
            MMERealWorldLite,
            realworld,
            {
                "bytes": _TEXT, "question": _TEXT, "multi-choice options": _TEXTS, "answer": _TEXT,
                "index": Value("int64"), "category": _TEXT, "l2-category": _TEXT,
            },
        ),
        Benchmark(
            OKVQA,
            ok_vqa,
            {
                "question_id": _TEXT, "image": _IMAGE, "question": _TEXT, "answers": _TEXTS, "question_type": _TEXT,
                "answer_type": _TEXT,
            },
        ),
        Benchmark(
            ScreenSpot,
            screenspot,
            {
                "file_name": _TEXT, "bbox": List(Value("float64")), "instruction": _TEXT, "data_type": _TEXT,
                "data_source": _TEXT, "image": _IMAGE,
            },
        ),
    )
}  # fmt: skip
