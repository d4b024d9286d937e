"""A case folder of numbers measured on the public reference implementation, as rows and a backbone of ours."""

import json
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration

from emloc.backbones.qwen2_vl import Qwen2VL
from emloc.prompt import TokenKind
from emloc.rows import Row

SYSTEM_TOKENS = 11
IMAGE_ID = 9
BUNDLED = Path(__file__).parents[1] / "data" / "reference"
EXTERNAL = Path(os.environ.get("EMLOC_REFERENCE", Path(__file__).parents[3] / "shared" / "reference"))


def case_folders() -> list[Path]:
    """Every case there is: those of EMLOC_REFERENCE, and the one that is carried in the repository."""
    return list({folder.name: folder for folder in (*_cases(EXTERNAL), *_cases(BUNDLED))}.values())


def _cases(root: Path) -> list[Path]:
    return sorted(folder.parent for folder in root.glob("*/result.json"))


class ReferenceBackbone(Qwen2VL):
    """The case's model; it has no tokenizer, its turns come as token ids."""

    end_ids = frozenset()  # the stored continuations were not stopped

    def __init__(self, model: Any, system_ids: Tensor) -> None:
        super().__init__(model, tokenizer=None, image_processor=None)
        self._system_ids = system_ids

    def system_row(self) -> Row:
        return self.build_row(self._system_ids, torch.zeros(len(self._system_ids), dtype=torch.uint8), [])


@dataclass(frozen=True)
class ReferenceCase:
    """Inputs and measured numbers of one case."""

    folder: Path

    @cached_property
    def result(self) -> dict[str, Any]:
        return json.loads((self.folder / "result.json").read_text())

    @cached_property
    def arrays(self) -> dict[str, Tensor]:
        with np.load(self.folder / "arrays.npz") as opened:
            return {name: torch.from_numpy(opened[name]) for name in opened.files}

    @cached_property
    def inputs(self) -> dict[str, Tensor]:
        with np.load(self.folder / "inputs.npz") as opened:
            return {name: torch.from_numpy(opened[name]) for name in opened.files}

    @cached_property
    def backbone(self) -> ReferenceBackbone:
        config = Qwen2VLConfig.from_dict(json.loads((self.folder / "config.json").read_text()))
        model = Qwen2VLForConditionalGeneration(config)
        model.load_state_dict(load_file(self.folder / "weights.safetensors"), strict=True)
        return ReferenceBackbone(model, self.inputs["chunk0_input_ids"][0, :SYSTEM_TOKENS])

    @property
    def chunk_size(self) -> int:
        return self.result["chunks"][0]["n_demo"]

    def demonstrations(self, chunk: int) -> list[Row]:
        """The chunk's demonstrations, one row each, without the padding they are stored with."""
        name = f"chunk{chunk}"
        pixels, grids = self.inputs[f"{name}_pixel_values"], self.inputs[f"{name}_icl_image_grid_thw"]
        visuals = self.backbone.patch_features(pixels, grids)
        stored = [self.inputs[f"{name}_icl_{part}"] for part in ("input_ids", "labels", "attention_mask")]
        rows = []
        for ids, labels, mask, visual in zip(*stored, visuals, strict=True):
            real = mask.bool()
            rows.append(self._row(ids[real], labels[real] != -100, visual))
        return rows

    def query(self, number: int) -> Row:
        """A query's row."""
        ids = self.inputs[f"query{number}_input_ids"][0]
        pixels, grids = (self.inputs[f"query{number}_{part}"] for part in ("pixel_values", "image_grid_thw"))
        (visual,) = self.backbone.patch_features(pixels, grids)
        return self._row(ids, torch.zeros_like(ids, dtype=torch.bool), visual)

    def _row(self, ids: Tensor, answers: Tensor, visual: Any) -> Row:
        kinds = torch.zeros_like(ids, dtype=torch.uint8)
        kinds[ids == IMAGE_ID] = TokenKind.IMAGE
        kinds[answers] = TokenKind.ANSWER
        return self.backbone.build_row(ids, kinds, [visual])
