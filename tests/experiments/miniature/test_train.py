"""The embedded model's training program: what it learns from, that it resumes, and that it trains the stock model."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from transformers import Qwen2VLForConditionalGeneration

from experiments.miniature import drawing, text, vision
from experiments.miniature.episodes import Batch, Writer, make_batch
from experiments.miniature.evaluate import Student, accuracy, digits
from experiments.miniature.export import folder_bytes, image_processor
from experiments.miniature.images import Pool, blur, make_pool, patches
from experiments.miniature.lessons import Lesson, embed
from experiments.miniature.loop import Schedule
from experiments.miniature.train import STAGES, Images, Stage, new_model, train
from experiments.miniature.vocabulary import label_ids, label_words, make_tokenizer

GRID = torch.tensor([[1, 8, 8]])


@pytest.fixture(scope="module")
def pool() -> Pool:
    return make_pool(strokes=40, per_character=1, per_stroke=4, seed=3)


@pytest.fixture(scope="module")
def writer() -> Writer:
    return Writer(make_tokenizer())


def some_batch(pool: Pool, writer: Writer, *, reach: int = 0, system: bool = True, seed: int = 3) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    return make_batch(pool, writer, generator, ways=3, count=6, episodes=2, duplicates=0.3, reach=reach, system=system)


# ---- what it learns from


def test_held_out_characters_follow_their_rule() -> None:
    assert drawing.choose_held_out() == drawing.HELD_OUT_CHARACTERS
    assert len(set(drawing.HELD_OUT_CHARACTERS)) == 100


def test_training_never_sees_held_out_shapes() -> None:
    training = drawing.training_characters()
    assert not set(training) & set(drawing.HELD_OUT_CHARACTERS)
    held_out = [drawing.shape(c, f) for c in drawing.HELD_OUT_CHARACTERS for f in drawing.fonts_with(c)]
    likeness = np.stack([drawing.shape(c) for c in training]) @ np.stack(held_out).T
    assert likeness.max() < drawing.SAME_SHAPE


def test_no_digit_among_the_characters() -> None:
    for character in (*drawing.training_characters(), *drawing.HELD_OUT_CHARACTERS):
        assert unicodedata.category(character) not in ("Nd", "No", "Nl")
        assert unicodedata.numeric(character, None) is None
        assert not any(c.isdigit() for c in unicodedata.normalize("NFKD", character))


@pytest.mark.parametrize("character", ["7", "²", "①", "Ⅳ", "𝟗", "٣"])
def test_digits_of_every_kind_are_recognised(character: str) -> None:
    assert drawing.is_digit_like(character)


def test_drawings_are_seeded() -> None:
    first, second = (drawing.draw_character("Ж", np.random.default_rng(5)) for _ in range(2))
    assert first.tobytes() == second.tobytes()
    assert (first.size, first.mode) == ((32, 32), "L")
    with pytest.raises(ValueError, match="no glyph"):
        drawing.draw_character("Ж", np.random.default_rng(5), font="Comic")


def _processed(images: Iterable[Tensor | NDArray[np.uint8]]) -> Tensor:
    pictures = [Image.fromarray(np.asarray(image)) for image in images]
    return image_processor()(images=pictures, return_tensors="pt")["pixel_values"]


def test_patches_are_the_processors(pool: Pool) -> None:
    small = [Image.fromarray(image.numpy()).resize((8, 8), Image.Resampling.BOX) for image in pool.images[:3]]
    expected = _processed([np.asarray(image) for image in small])
    found = patches(blur(pool.images[:3].float(), 8)).flatten(0, 1)
    error = (found - expected).abs()  # one grey level is 0.015; PIL also rounds and clips between its two passes
    assert error.mean() < 0.005
    assert error.max() < 0.2
    assert torch.equal(patches(pool.images[:3]).flatten(0, 1), _processed(pool.images[:3]))


# ---- the tokenizer


def test_every_label_is_one_token() -> None:
    ids = label_ids(make_tokenizer())
    assert len(set(ids)) == 256
    assert label_words()[:3] == ("zero", "one", "two")


def test_no_label_is_part_of_another() -> None:
    words = label_words()
    assert not [(a, b) for a in words for b in words if a != b and a in b]


@pytest.mark.parametrize("content", ["What is this?", "Ünïcode ☃ 12\n\n  x", "one two", "<|im_start|>user\n"])
def test_any_text_survives_the_tokenizer(content: str) -> None:
    tokenizer = make_tokenizer()
    assert tokenizer.decode(tokenizer(content)["input_ids"]) == content


# ---- the training forward is the stock forward


def test_episode_positions_are_the_stock_ones(pool: Pool, writer: Writer) -> None:
    model, _ = new_model()
    for seed in range(4):  # each with another question
        batch = some_batch(pool, writer, reach=0, seed=seed)  # no reach: no gaps
        kinds = (batch.ids == model.config.image_token_id).int()
        expected, _ = model.model.get_rope_index(batch.ids, kinds, GRID.expand(12, -1))
        assert torch.equal(expected, batch.positions)


@pytest.mark.parametrize("system", [True, False])
def test_training_forward_equals_stock(pool: Pool, writer: Writer, system: bool) -> None:
    model, _ = new_model()
    batch = some_batch(pool, writer, reach=4000, system=system)
    with torch.no_grad():
        ours = text.forward(
            model.model.language_model, embed(model, batch, False), batch.positions, batch.layout, sparse=False
        )
        pixels = batch.images.unflatten(0, batch.source.shape)[torch.arange(2)[:, None], batch.source]
        stock = model.model(
            input_ids=batch.ids, pixel_values=pixels.flatten(0, 2), image_grid_thw=GRID.expand(12, -1),
            mm_token_type_ids=(batch.ids == model.config.image_token_id).int(), position_ids=batch.positions,
        ).last_hidden_state  # fmt: skip
    assert (ours - stock).abs().max() < 1e-4


def test_sparse_view_hides_all_but_labels(pool: Pool, writer: Writer) -> None:
    model, _ = new_model()
    batch = some_batch(pool, writer, system=False)
    layout = batch.layout
    key, row = torch.arange(layout.tokens), torch.arange(layout.tokens)
    label = key % layout.length == layout.answer + 1
    same = key[None, :] // layout.length == row[:, None] // layout.length
    mask = (key[None, :] <= row[:, None]) & (same | label[None, :])
    with torch.no_grad():
        hidden = embed(model, batch, False)
        ours = text.forward(model.model.language_model, hidden, batch.positions, layout, sparse=True)
        stock = model.model.language_model(
            inputs_embeds=hidden, position_ids=batch.positions, attention_mask=mask[None, None].expand(2, 1, -1, -1)
        ).last_hidden_state
    assert (ours - stock).abs().max() < 1e-4


def test_clean_rows_see_prefix_own_tokens_and_earlier_labels() -> None:
    layout = text.Layout(demonstrations=3, length=4, image=slice(0, 1), answer=1, prefix=2)
    rows, clean = text.clean_rows(layout, 200, torch.Generator().manual_seed(0))
    seen = {int(row): allowed.nonzero().flatten().tolist() for row, allowed in zip(rows, clean, strict=True)}
    assert set(seen) == set(range(2, 14))
    assert seen[2] == [0, 1, 2]
    assert seen[9] == [0, 1, 4, 6, 7, 8, 9]  # demonstration 1 starts at 6; the label of demonstration 0 is token 4
    assert seen[13] == [0, 1, 4, 8, 10, 11, 12, 13]


def test_junk_loss_is_the_mass_that_leaves_the_clean_tokens(pool: Pool, writer: Writer) -> None:
    layout = some_batch(pool, writer).layout
    rows, clean = text.clean_rows(layout, 16, torch.Generator().manual_seed(0))
    q, k = torch.randn(2, 1, 2, layout.tokens, 8, generator=torch.Generator().manual_seed(1)).unbind(0)
    zero = torch.zeros(())
    masks = text.make_masks(layout, torch.zeros(1, layout.demonstrations, dtype=torch.long), sparse=False)
    aim = text.Supervision((), (), torch.zeros(1, 1), masks, zero, zero, zero, zero, rows, clean)
    causal = torch.ones(layout.tokens, layout.tokens).tril().bool()
    weights = (q @ k.transpose(-1, -2) / 8**0.5).masked_fill(~causal, -torch.inf).softmax(-1)[:, :, rows]
    expected = -(weights * clean).sum(-1).log().mean()
    assert torch.allclose(text.junk_loss(q, k, aim), expected, atol=1e-5)


def test_tower_in_one_batch_equals_stock(pool: Pool) -> None:
    tower = new_model()[0].model.visual
    images = patches(pool.images[:4])
    with torch.no_grad():
        stock = tower(images.flatten(0, 1), GRID.expand(4, -1)).pooler_output
        assert (vision.encode(tower, images).flatten(0, 1) - stock).abs().max() < 1e-5


# ---- training

SMALL = Images(strokes=8, per_character=1, per_stroke=4, seed=3)
SHORT = (
    Stage("vision", Schedule(3, 1e-3, warmup=1), seed=1),
    Stage("text", Schedule(4, 1e-3, warmup=1), Lesson(((2, 4), (3, 6)), demonstrations=12), seed=2),
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    assert train(folder / "work", folder / "out", stages=SHORT, images=SMALL, ways=8)
    return folder


def test_training_writes_a_loadable_folder(trained: Path) -> None:
    student = Student(trained / "out")
    assert student.model.dtype == torch.float32
    assert 0 <= accuracy(student, digits(student.labels), 1, limit=4) <= 1
    assert folder_bytes(trained / "out") <= 16e6
    assert (trained / "work" / "curve.csv").read_text().startswith("stage,step,name,value\nvision,3,")


def test_default_dtype_is_float32(trained: Path) -> None:
    assert Qwen2VLForConditionalGeneration.from_pretrained(trained / "out").dtype == torch.float32


def test_resumed_training_gives_the_same_weights(trained: Path, tmp_path: Path) -> None:
    for _ in range(3):
        finished = train(tmp_path, tmp_path / "out", stages=SHORT, images=SMALL, ways=8, stop_after=2)
    assert finished
    whole, parts = (torch.load(folder / "text.pt")["module"] for folder in (trained / "work", tmp_path))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_stage_names_are_distinct() -> None:
    assert len({stage.name for stage in STAGES}) == len(STAGES)
    assert replace(STAGES[0], seed=9).schedule.rate_at(0) < STAGES[0].schedule.rate
