"""Videos in the backbone, against plain transformers on the same weights."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from emloc import Demonstration, NoPruning, Query, Video
from emloc.answering import generate, query_rows
from emloc.backbones.base import Backbone
from emloc.prompt import TokenKind, load_frames
from emloc.rows import Row, concatenate, split
from tests.support.lively import lively_backbone, random_image
from tests.support.videos import write_video


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return lively_backbone(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("videos") / "clip.mp4", 30, size=(48, 32))


def demonstrations(clip: Path) -> list[Demonstration]:
    """Videos, an image, and no visual at all, mixed; frames come in odd numbers, too."""
    visuals = [Video(clip, 4), random_image(3), None, Video(clip, 3), Video(clip, 1), random_image(4, size=(24, 16))]
    return [Demonstration(visual, f"What is {n}?", f"answer {n}") for n, visual in enumerate(visuals)]


def stock_video(backbone: Backbone, frames: Sequence[Any]) -> tuple[Tensor, Tensor]:
    """Patches and grid of a video, cut as the Qwen2-VL report has it, from the image processor's normalised frames."""
    processor = backbone.image_processor
    patch, merge, size = processor.patch_size, processor.merge_size, processor.temporal_patch_size
    pixels = [_pixels(processor, frame) for frame in frames]
    pixels += pixels[-1:] * (-len(pixels) % size)
    video = torch.stack(pixels)  # (F, C, H, W)
    rows, columns = (side // patch for side in video.shape[2:])
    cut = video.reshape(-1, size, 3, rows // merge, merge, patch, columns // merge, merge, patch)
    patches = cut.permute(0, 3, 6, 4, 7, 2, 1, 5, 8).reshape(-1, 3 * size * patch * patch)
    return patches, torch.tensor([[video.shape[0] // size, rows, columns]])


def _pixels(processor: Any, frame: Any) -> Tensor:
    """The resized, normalised frame (C, H, W), put together again from the patches of the image processor."""
    processed = processor(images=[frame], return_tensors="pt")
    patch, merge, size = processor.patch_size, processor.merge_size, processor.temporal_patch_size
    _, rows, columns = processed["image_grid_thw"][0].tolist()
    cut = processed["pixel_values"].reshape(rows // merge, columns // merge, merge, merge, 3, size, patch, patch)
    return cut[..., 0, :, :].permute(4, 0, 2, 5, 1, 3, 6).reshape(3, rows * patch, columns * patch)


def stock_inputs(backbone: Backbone, items: list[Any]) -> dict[str, Tensor]:
    """What a user of plain transformers would feed."""
    chat, config = backbone.chat, backbone.model.config
    inputs: dict[str, list[Tensor]] = {}
    text = "".join(piece.text for piece in chat.system_turn())
    for item in items:
        count = 1
        if isinstance(item.visual, Video):
            patches, grid = stock_video(backbone, list(load_frames(item.visual)))
            inputs.setdefault("pixel_values_videos", []).append(patches)
            inputs.setdefault("video_grid_thw", []).append(grid)
            count = patches.shape[0] // 4
        elif item.visual is not None:
            processed = backbone.image_processor(images=[item.visual], return_tensors="pt")
            for name, value in processed.items():
                inputs.setdefault(name, []).append(value)
            count = processed["pixel_values"].shape[0] // 4
        text += "".join(p.text * (count if p.kind == TokenKind.IMAGE else 1) for p in chat.render(item))
    ids = torch.tensor([backbone.tokenizer(text, add_special_tokens=False).input_ids])
    kinds = (ids == config.image_token_id).long() + 2 * (ids == config.video_token_id).long()
    joined = {name: torch.cat(values) for name, values in inputs.items()}
    return {"input_ids": ids, "mm_token_type_ids": kinds, **joined}


@pytest.mark.parametrize("frames", [1, 2, 5, 8])
def test_steps_of_a_video_are_cut_from_pairs_of_frames(backbone: Backbone, clip: Path, frames: int) -> None:
    shown = list(load_frames(Video(clip, frames)))
    patches, grid = stock_video(backbone, shown)
    steps = list(backbone._steps(shown))  # type: ignore[attr-defined]
    assert torch.equal(torch.cat([step for step, _ in steps]), patches)
    assert len(steps) == int(grid[0, 0]) == (frames + 1) // 2
    (features, found), *_ = backbone.visual_features([shown])
    assert found.tolist() == grid[0].tolist()
    whole = backbone.model.model.get_video_features(patches, grid).pooler_output[0]
    torch.testing.assert_close(features, whole, atol=1e-5, rtol=1e-4)


def test_an_image_is_a_video_of_one_step(backbone: Backbone) -> None:
    image = random_image(5, size=(40, 24))
    ((patches, grid),) = backbone._steps([image])  # type: ignore[attr-defined]
    processed = backbone.image_processor(images=[image], return_tensors="pt")
    assert torch.equal(patches, processed["pixel_values"])
    assert torch.equal(grid, processed["image_grid_thw"][0])
    single, twice = (features for features, _ in backbone.visual_features([[image], [image, image]]))
    torch.testing.assert_close(single, twice)


def test_features_do_not_depend_on_how_steps_are_batched(
    backbone: Backbone, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where a batch ends within a video, and where it holds the end of one and the beginning of the next."""
    results = []
    for size in (1, 3, 100):
        monkeypatch.setattr(backbone, "steps_per_batch", size)
        results.append([row.embeds for row in backbone.encode(demonstrations(clip))])
    for singly, *others in zip(*results, strict=True):
        for other in others:
            torch.testing.assert_close(singly, other, atol=1e-5, rtol=1e-4)


def test_frames_are_read_while_they_are_encoded(backbone: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    """At no time are more frames taken than the vision tower is about to see."""
    taken, seen = [], []
    plain = backbone.patch_features  # type: ignore[attr-defined]

    def watching(patches: Tensor, grids: Tensor) -> Any:
        seen.append(len(taken))
        return plain(patches, grids)

    monkeypatch.setattr(backbone, "steps_per_batch", 2)
    monkeypatch.setattr(backbone, "patch_features", watching)
    list(backbone.visual_features([taken.append(n) or random_image(n) for n in range(12)] for _ in range(1)))
    assert seen == [12, 12, 12]  # a list is taken at once ...
    taken.clear()
    seen.clear()
    list(backbone.visual_features([(taken.append(n) or random_image(n) for n in range(12))]))
    assert seen == [4, 8, 12]  # ... a stream as it is needed


def test_positions_are_those_of_transformers_where_these_are_qwens(backbone: Backbone, clip: Path) -> None:
    demos = demonstrations(clip)  # at most two steps of 2 x 3 tokens
    inputs = stock_inputs(backbone, demos)
    whole, _ = backbone.model.model.get_rope_index(
        inputs["input_ids"], inputs["mm_token_type_ids"], inputs["image_grid_thw"], inputs["video_grid_thw"]
    )
    row = concatenate([backbone.system_row(), *backbone.encode(demos)])
    assert torch.equal(row.ids, inputs["input_ids"][0])
    assert torch.equal(row.positions, whole[:, 0])


def test_text_goes_on_behind_the_last_step_of_a_long_video(backbone: Backbone, clip: Path) -> None:
    """Four text tokens, 5 steps of 1 x 2 tokens, text: as in the Qwen2-VL report, time counts like the other axes."""
    kinds = torch.tensor([0] * 4 + [1] * 10 + [0] * 2)
    positions = backbone.positions(kinds, [torch.tensor([5, 2, 4])])
    assert positions.tolist() == [
        [0, 1, 2, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 10],
        [0, 1, 2, 3, *[4] * 10, 9, 10],
        [0, 1, 2, 3, *[4, 5] * 5, 9, 10],
    ]
    (row,) = backbone.encode([Query(Video(clip, 20), "?")])
    visual = row.positions[:, row.kinds == TokenKind.IMAGE]
    behind = row.positions[:, int((row.kinds == TokenKind.IMAGE).nonzero()[-1]) + 1]
    assert int(visual[0].max() - visual[0].min()) == 9 > int(visual[1:].max() - visual[1:].min())
    assert behind.tolist() == [int(visual.max()) + 1] * 3


def test_answers_equal_generate_on_the_whole_context(backbone: Backbone, clip: Path) -> None:
    demos = demonstrations(clip)
    visuals = (Video(clip, 4), random_image(9), Video(clip, 2), Video(clip, 3))
    asked = [Query(visual, "And?" + "this?" * n) for n, visual in enumerate(visuals)]
    memory = NoPruning(chunk_size=2).compress(backbone, demos)
    ours = generate(backbone, query_rows(backbone, asked, memory), memory, max_new_tokens=8)
    for query, ids in zip(asked, ours, strict=True):
        inputs = stock_inputs(backbone, [*demos, query])
        whole = backbone.model.generate(**inputs, max_new_tokens=8, do_sample=False)
        continued = whole[0, inputs["input_ids"].shape[1] :].tolist()
        assert ids == [token for token in continued if token not in backbone.end_ids]
    assert len({tuple(ids) for ids in ours}) > 1


def test_videos_are_written_with_their_own_token(backbone: Backbone, clip: Path) -> None:
    video, image = backbone.encode([Query(Video(clip, 4), "?"), Query(random_image(1), "?")])
    tokens = [set(row.ids[row.kinds == TokenKind.IMAGE].tolist()) for row in (video, image)]
    config = backbone.model.config
    assert tokens == [{config.video_token_id}, {config.image_token_id}]


@pytest.mark.parametrize("visual", ["video", "image", None])
def test_a_query_in_two_parts_is_the_query(backbone: Backbone, clip: Path, visual: str | None) -> None:
    shown = {"video": Video(clip, 7), "image": random_image(2), None: None}[visual]
    query = Query(shown, "What is it?")
    opening, tail = backbone.opening_row(query), backbone.tail_row(query)
    (whole,) = backbone.encode([query])
    assert_same(concatenate([opening, tail]), whole)
    assert backbone.tokenizer.decode(tail.ids) == "What is it?<|im_end|>\n<|im_start|>assistant\n"


def test_split_is_undone_by_concatenation(backbone: Backbone, clip: Path) -> None:
    """Cuts at steps of a video; a later part's rows and columns lie below its beginning."""
    (row,) = backbone.encode([Query(Video(clip, 20), "?")])
    visual = (row.kinds == TokenKind.IMAGE).nonzero().flatten().tolist()
    step = len(visual) // 10
    parts = split(row, [visual[2 * step], visual[7 * step]])
    assert_same(concatenate(parts), row)
    assert parts[2].positions.min() < 0
    assert sum(part.span for part in parts) == row.span


def assert_same(one: Row, other: Row) -> None:
    assert torch.equal(one.ids, other.ids)
    assert torch.equal(one.kinds, other.kinds)
    assert torch.equal(one.positions, other.positions)
    torch.testing.assert_close(one.embeds, other.embeds)
