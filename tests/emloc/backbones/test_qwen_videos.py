"""Qwen2.5-VL's videos against plain transformers: time counts in seconds."""

from pathlib import Path

import pytest
import torch

from emloc import NoPruning, Query, Video
from emloc.backbones.base import Backbone
from emloc.prompt import TokenKind, load_frames
from tests.emloc.test_backbone_video import demonstrations, stock_inputs, stock_video
from tests.support.families import FAMILIES
from tests.support.videos import write_video

FAMILY = next(family for family in FAMILIES if family.name == "qwen2_5_vl")


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return FAMILY.lively(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("videos") / "clip.mp4", 30, size=(48, 32))


def test_features_of_a_video_are_those_of_its_steps(backbone: Backbone, clip: Path) -> None:
    """The vision tower attends within a step, in windows and in full."""
    shown = list(load_frames(Video(clip, 6)))
    patches, grid = stock_video(backbone, shown)
    (features, found), *_ = backbone.visual_features([shown])
    assert found.tolist() == grid[0].tolist()
    whole = backbone.model.model.get_video_features(patches, grid).pooler_output[0]
    torch.testing.assert_close(features, whole, atol=1e-4, rtol=1e-3)


def test_a_step_takes_its_seconds(backbone: Backbone, clip: Path) -> None:
    """transformers' positions of a video whose steps take a second; behind it, text goes on after the largest one."""
    (row,) = backbone.encode([Query(Video(clip, 6), "And this?")])
    inputs = stock_inputs(backbone, [Query(Video(clip, 6), "And this?")])
    theirs, _ = backbone.model.model.get_rope_index(
        inputs["input_ids"], inputs["mm_token_type_ids"], None, inputs["video_grid_thw"]
    )
    opening = len(backbone.system_row())
    visual = int((row.kinds == TokenKind.IMAGE).nonzero()[-1]) + 1
    assert torch.equal(row.positions[:, :visual], theirs[:, 0, opening : opening + visual] - opening)
    steps = row.positions[0, row.kinds == TokenKind.IMAGE].unique().tolist()
    assert [step - steps[0] for step in steps] == [0, 4, 8]  # three steps of two frames, four positions per second
    assert row.positions[:, visual].tolist() == [int(row.positions[:, :visual].max()) + 1] * 3


def test_contexts_hold_videos(backbone: Backbone, clip: Path) -> None:
    memory = NoPruning(chunk_size=2).compress(backbone, demonstrations(clip))
    whole = NoPruning().compress(backbone, demonstrations(clip))
    for kept, together in zip(memory.layers, whole.layers, strict=True):
        torch.testing.assert_close(kept.keys, together.keys, atol=5e-4, rtol=1e-3)
    assert len(backbone.answer([Query(Video(clip, 4), "And this?")], memory, max_new_tokens=3)) == 1
