"""Rendered turns: the layout, and where the answers are."""

from pathlib import Path

import pytest
from PIL import Image

from emloc import Demonstration, Query, UserError, load_backbone
from emloc.prompt import ChatFormat, TokenKind, load_image
from tests.support.lively import random_image

CHAT = ChatFormat()


def text_of(pieces: list) -> str:
    return "".join(piece.text for piece in pieces)


def test_the_layout_is_the_references() -> None:
    assert text_of(CHAT.system_turn()) == "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    assert len(text_of(CHAT.system_turn())) == 58  # what the public reference cuts off in front
    demonstration = CHAT.demonstration(Demonstration(random_image(0), "What?", "A bird."))
    expected = (
        "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>What?<|im_end|>\n"
        "<|im_start|>assistant\nA bird.<|im_end|>\n"
    )
    assert text_of(demonstration) == expected
    query = text_of(CHAT.query(Query(random_image(0), "What?")))
    assert expected.startswith(query)
    assert query.endswith("<|im_start|>assistant\n")
    assert len("<|im_start|>assistant\n") == 22  # the generation prompt that the reference cuts off behind


def test_answers_are_marked_from_the_predicting_newline_to_the_end_of_turn() -> None:
    pieces = CHAT.demonstration(Demonstration(None, "assistant\nWhat?<|im_end|>", "assistant\n"))
    assert text_of([p for p in pieces if p.kind == TokenKind.ANSWER]) == "\nassistant\n<|im_end|>"
    assert not any(p.kind == TokenKind.IMAGE for p in pieces)
    assert all(p.kind == TokenKind.QUESTION for p in CHAT.query(Query(None, "assistant")))


def test_the_embedded_models_chat_template_gives_the_same_tokens() -> None:
    backbone = load_backbone("tiny", device="cpu")
    demonstration = Demonstration(random_image(0), "What is this?", "seven")
    conversation = [
        {"role": "system", "content": CHAT.system},
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": demonstration.question}]},
        {"role": "assistant", "content": [{"type": "text", "text": demonstration.answer}]},
    ]
    theirs = backbone.tokenizer.apply_chat_template(conversation, tokenize=False)
    pieces = [*CHAT.system_turn(), *CHAT.demonstration(demonstration)]
    assert theirs == text_of(pieces)
    (row,) = backbone.encode([demonstration])
    expanded = text_of(pieces[3:]).replace(CHAT.image_token, CHAT.image_token * 16)
    assert row.ids.tolist() == backbone.tokenizer(expanded, add_special_tokens=False).input_ids
    assert int(row.answers.sum()) == 3


def test_images_are_read_as_rgb_and_bad_files_are_named(tmp_path: Path) -> None:
    good, broken = tmp_path / "good.png", tmp_path / "broken.png"
    Image.new("L", (5, 4), 7).save(good)
    assert load_image(good).getpixel((0, 0)) == (7, 7, 7)
    broken.write_bytes(good.read_bytes()[:40])
    for path in (broken, tmp_path / "missing.png"):
        with pytest.raises(UserError, match=path.name):
            load_image(path)
