"""What models are asked, to the character: the whole conversation of every benchmark, and how its texts are replaced.

After a change that is meant, `pytest tests/test_prompts.py --update-golden` writes tests/golden/ anew.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from emloc import load_backbone
from emloc.backbones.base import Backbone
from experiments.assembly import fingerprints
from experiments.datasets.base import Dataset
from experiments.datasets.digits import Digits
from experiments.datasets.imagenet100 import ImageNet100
from tests.imagenet import imagenet_tree
from tests.published import BENCHMARKS


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return load_backbone("tiny", device="cpu")


def conversation(dataset: Dataset, backbone: Backbone) -> str:
    """System turn, two demonstrations and one query, with <image> for the visual tokens."""
    chat = backbone.chat
    items = [*dataset.draw(2, 0), dataset.query(dataset.samples()[0])]
    pieces = [*chat.system_turn(), *(piece for item in items for piece in chat.render(item))]
    visual = f"{chat.image_open}{chat.image_token}{chat.image_close}"
    return "".join(piece.text for piece in pieces).replace(visual, "<image>")


@pytest.mark.parametrize("name", BENCHMARKS)
def test_conversations_of_the_published_benchmarks(
    name: str, tmp_path: Path, backbone: Backbone, golden: Callable[[str, str], None]
) -> None:
    benchmark = BENCHMARKS[name]
    copy = benchmark.write(tmp_path, benchmark.rows(10))
    golden(f"{name}.txt", conversation(benchmark.dataset(path=copy, rows=None, pool_size=6), backbone))


def test_conversation_of_imagenet(tmp_path: Path, backbone: Backbone, golden: Callable[[str, str], None]) -> None:
    root = imagenet_tree(tmp_path, train=1, val=1)
    golden("imagenet100.txt", conversation(ImageNet100(root=root), backbone))


def test_conversation_of_digits(backbone: Backbone, golden: Callable[[str, str], None]) -> None:
    golden("digits.txt", conversation(Digits(), backbone))


@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_constant_text_can_be_replaced_and_is_fingerprinted(name: str, tmp_path: Path) -> None:
    benchmark = BENCHMARKS[name]
    copy = benchmark.write(tmp_path, benchmark.rows(10))
    texts = {literal: f"[{literal}: é\n]" for literal in benchmark.dataset.wording}
    dataset = benchmark.dataset(path=copy, rows=None, pool_size=6, prompt=texts)
    questions = [sample.question for sample in [*dataset.pool(), *dataset.samples()]]
    assert all(text in question for text in texts.values() for question in questions)
    for literal, text in texts.items():
        stored = fingerprints(dataset)[literal]
        assert (stored.characters, stored.sha256) == (len(text), hashlib.sha256(text.encode()).hexdigest())


@pytest.mark.parametrize("name", BENCHMARKS)
def test_one_text_can_be_replaced_alone(name: str, tmp_path: Path) -> None:
    benchmark = BENCHMARKS[name]
    first, *others = benchmark.dataset.wording
    prompts = benchmark.dataset(path=tmp_path, prompt={first: "x"}).prompts
    assert prompts == {first: "x", **{other: benchmark.dataset.wording[other] for other in others}}
