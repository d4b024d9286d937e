"""What models are asked, to the character: the whole conversation of every benchmark, and how its texts are replaced.

After an intended change, `pytest tests/experiments/datasets/test_prompts.py --update-golden` rewrites tests/golden/.
"""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from emloc import load_backbone
from emloc.backbones.base import Backbone
from experiments.datasets.base import Dataset
from experiments.datasets.digits import Digits
from experiments.datasets.imagenet100 import ImageNet100
from experiments.datasets.published import Published
from experiments.datasets.video_mme import VideoMME
from experiments.datasets.youcook2 import YouCook2
from experiments.running.assembly import fingerprints
from tests.support.imagenet import imagenet_tree
from tests.support.published import BENCHMARKS
from tests.support.runs import ROOT


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return load_backbone("tiny", device="cpu")


def conversation(dataset: Dataset, backbone: Backbone, *, shots: int = 2) -> str:
    """System turn, demonstrations and one query, with <image> or <video> for the visual tokens."""
    chat = backbone.chat
    items = [*dataset.draw(shots, 0), dataset.query(dataset.samples()[0])]
    text = "".join(piece.text for item in items for piece in chat.render(item))
    for name, token in (("<image>", chat.image_token), ("<video>", chat.video_token)):
        text = text.replace(f"{chat.image_open}{token}{chat.image_close}", name)
    return "".join(piece.text for piece in chat.system_turn()) + text


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


def with_videos(folder: Path, rows: list[dict[str, Any]], names: list[str]) -> dict[str, Any]:
    """A table and the files of its videos, which are not opened here."""
    (folder / "rows.json").write_text(json.dumps(rows))
    for name in names:
        (folder / name).touch()
    return {"path": folder / "rows.json", "videos": folder, "rows": None}


def test_conversation_of_youcook2(tmp_path: Path, backbone: Backbone, golden: Callable[[str, str], None]) -> None:
    names = [f"clip{number}.mp4" for number in range(10)]
    rows = [
        {"sentence": f"stir pot {n}", "video_path": name, "youtube_id": f"v{n}", "recipe_type": "101"}
        for n, name in enumerate(names)
    ]
    dataset = YouCook2(**with_videos(tmp_path, rows, names), pool_size=6)
    golden("youcook2.txt", conversation(dataset, backbone))


def test_conversation_of_video_mme(tmp_path: Path, backbone: Backbone, golden: Callable[[str, str], None]) -> None:
    row = {
        "videoID": "v0", "question_id": "001-1", "question": "What is it about?", "answer": "B", "duration": "short",
        "options": ["A. Stars.", "B. Soup.", "C. Sand.", "D. Silk."], "domain": "Knowledge", "sub_category": "Food",
        "task_type": "Reasoning",
    }  # fmt: skip
    dataset = VideoMME(**with_videos(tmp_path, [row], ["v0.mp4"]))
    golden("video_mme.txt", conversation(dataset, backbone, shots=0))


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


@pytest.mark.parametrize("dataset", [*(benchmark.dataset for benchmark in BENCHMARKS.values()), YouCook2, VideoMME])
def test_every_benchmark_is_documented(dataset: type[Published]) -> None:
    text = (ROOT / "docs" / "DATASETS.md").read_text(encoding="utf-8")
    row = next(line for line in text.splitlines() if line.startswith(f"| `{dataset.name}` | `"))
    assert f"`{dataset.hub_id}` | `{dataset.split}`, {dataset.rows:,} |" in row
    prompts = text[text.index("## Prompts") : text.index("## Answers")]
    family = next(line for line in prompts.splitlines() if _is_of(line, dataset.name))
    assert all(f"`{name}`" in family for name in dataset.wording)


def _is_of(line: str, name: str) -> bool:
    pattern = line.split("`")[1] if line.startswith("| `") else ""
    return pattern == name or (pattern.endswith("*") and name.startswith(pattern.removesuffix("*")))
