"""Every dataset on real images: what is in it, its balance, its scores, and what it says about bad input."""

import logging
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import Field, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hydra.utils import get_class
from omegaconf import OmegaConf
from PIL import Image
from sklearn.datasets import load_digits

from emloc.errors import UserError
from emloc.prompt import load_image
from experiments.datasets.base import Dataset, Sample
from experiments.datasets.codewords import AnswerCode
from experiments.datasets.digits import Digits
from experiments.datasets.glyphs100 import Glyphs100
from experiments.datasets.image_folder import ImageFolder
from experiments.datasets.imagenet100 import ImageNet100, class_names

CONFIGURATIONS = sorted((Path(__file__).parents[3] / "conf" / "dataset").glob("*.yaml"))


def write_image(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (12, 9, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def make_folder(root: Path, train: Sequence[str], val: Sequence[str], each: int = 2) -> Path:
    for split, classes in (("train", train), ("val", val)):
        for name in classes:
            for number in range(each):
                write_image(root / split / name / f"{number}.png", number)
    return root


@pytest.fixture(scope="module")
def imagenet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The layout of ImageNet-1k: three training and two validation images per class, and one synset more."""
    root = tmp_path_factory.mktemp("imagenet")
    for wnid in [*class_names(), "n01860187"]:
        for number in range(3):
            write_image(root / "train" / wnid / f"{wnid}_{number}.JPEG", number)
        for number in range(2):
            write_image(root / "val" / wnid / f"ILSVRC2012_val_{number:08d}.JPEG", number)
    return root


def labels(samples: Sequence[Sample]) -> Counter[str]:
    return Counter(sample.label for sample in samples)


def test_digits_are_the_real_ones_and_queries_never_demonstrate() -> None:
    dataset = Digits()
    assert labels(dataset.pool()) == dict.fromkeys(dataset.classes, 20)
    assert len(dataset.samples()) == 1597
    assert len({sample.id for sample in [*dataset.pool(), *dataset.samples()]}) == 1797
    data = load_digits()
    for sample in [*dataset.pool()[:20], *dataset.samples()[:20]]:
        index = int(sample.id.removeprefix("digits/"))
        assert isinstance(sample.visual, Image.Image)
        assert (sample.visual.mode, sample.visual.size) == ("L", (8, 8))
        assert np.abs(np.asarray(sample.visual) - data.images[index] * 255 / 16).max() <= 0.5
        assert dataset.classes[data.target[index]] == sample.label


def test_glyphs_are_drawn_the_same_every_time() -> None:
    dataset, again = Glyphs100(), Glyphs100()
    assert len(set(dataset.classes)) == 100
    assert labels(dataset.pool()) == dict.fromkeys(dataset.classes, 2)
    assert labels(dataset.samples()) == dict.fromkeys(dataset.classes, 10)
    images = [load_image(sample.visual).tobytes() for sample in [*dataset.pool(), *dataset.samples()]]
    assert images == [load_image(sample.visual).tobytes() for sample in [*again.pool(), *again.samples()]]
    assert len(set(images)) == 1200
    assert len({sample.id for sample in [*dataset.pool(), *dataset.samples()]}) == 1200
    assert dataset.samples()[0] is dataset.samples()[0]


@pytest.mark.parametrize("make", [Digits, Glyphs100])
def test_demonstrations_are_balanced_nested_and_seeded(make: Callable[[], Dataset]) -> None:
    dataset = make()
    all_200 = dataset.draw(200, 3)
    assert Counter(d.answer for d in all_200) == dict.fromkeys(dataset.classes, 200 // len(dataset.classes))
    assert set(Counter(d.answer for d in all_200[: len(dataset.classes)]).values()) == {1}
    assert dataset.draw(50, 3) == all_200[:50]
    assert dataset.draw(0, 3) == []
    assert [d.id for d in dataset.draw(200, 4)] != [d.id for d in all_200]
    rounds = [tuple(d.answer for d in all_200[i : i + 10]) for i in range(0, 200, 10)]
    assert len(set(rounds)) == 20  # the order of the classes is not repeated
    assert all(d.question == dataset.question for d in all_200)


def test_demonstrations_by_rule() -> None:
    first = Digits(demonstrations="first")
    assert [d.id for d in first.draw(30, 3)] == [sample.id for sample in first.pool()[:30]]
    assert (first.rule, Digits().rule) == ("first", "balanced")
    with pytest.raises(UserError, match="balanced or first, but got reference: the paper has no digits"):
        Digits(demonstrations="reference").draw(10, 0)
    with pytest.raises(UserError, match=r"first, reference or null, but got 'frist'\. Did you mean 'first'"):
        Digits(demonstrations="frist")


def test_query_and_exact_score() -> None:
    dataset = Digits(question="Which digit?")
    sample = dataset.samples()[0]
    query = dataset.query(sample)
    assert (query.visual, query.question, query.id) == (sample.visual, "Which digit?", sample.id)
    assert dataset.agreement("Seven.", "seven") == 1.0
    assert dataset.agreement("seven eight", "seven") == 0.0
    assert dataset.score(sample.label, sample) == {"accuracy": 1.0}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"question": " "}, "Expected question to be a text that is not empty, but got ' '"),
        ({"max_new_tokens": 0}, "Expected max_new_tokens to be a whole number from 1 up, but got 0"),
        ({"visual_tokens": 6.5}, "Expected visual_tokens to be a whole number from 1 up or null, but got 6.5"),
    ],
)
def test_options_out_of_range(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Digits(**options)


@pytest.mark.parametrize(
    ("shots", "seed", "message"),
    [
        (-1, 0, "Expected shots to be a whole number from 0 up, but got -1"),
        (201, 0, "Dataset digits has 200 demonstrations, but shots=201"),
        (10, -1, "Expected seed to be a whole number from 0 up, but got -1"),
    ],
)
def test_shots_that_cannot_be(shots: int, seed: int, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Digits().draw(shots, seed)


@dataclass(frozen=True, kw_only=True)
class DigitsWithoutNine(Digits):
    def pool(self) -> Sequence[Sample]:
        return [sample for sample in super().pool() if sample.label != "nine"]


def test_a_class_that_nothing_demonstrates() -> None:
    with pytest.raises(UserError, match="dataset digits has none for 'nine'"):
        DigitsWithoutNine().draw(10, 0)


def test_image_folder_reads_any_names_and_formats(tmp_path: Path) -> None:
    make_folder(tmp_path, ["café noir", "猫", "train only"], ["café noir", "猫"])
    for suffix in ("png", "JPG", "jpeg", "bmp", "gif", "webp", "tif", "TIFF"):
        write_image(tmp_path / "train" / "猫" / f"format.{suffix}")
    write_image(tmp_path / "train" / "猫" / ".hidden.png")
    write_image(tmp_path / "train" / ".hidden" / "0.png")
    (tmp_path / "train" / "猫" / "notes.txt").write_text("not an image")
    dataset = ImageFolder(root=str(tmp_path))
    assert dataset.classes == ("café noir", "train only", "猫")
    assert labels(dataset.pool()) == {"café noir": 2, "train only": 2, "猫": 10}
    assert [sample.id for sample in dataset.samples()][:2] == ["val/café noir/0.png", "val/café noir/1.png"]
    assert all(isinstance(sample.visual, Path) for sample in dataset.pool())
    assert {load_image(sample.visual).mode for sample in dataset.pool()} == {"RGB"}
    demonstrations = dataset.draw(14, 0)
    assert Counter(d.answer for d in demonstrations[:6]) == dict.fromkeys(dataset.classes, 2)
    assert {d.answer for d in demonstrations[6:]} == {"猫"}  # the others are used up


def test_image_folder_scores_letters_by_case_where_both_are_classes(tmp_path: Path) -> None:
    dataset = ImageFolder(root=make_folder(tmp_path, ["A", "a", "B"], ["A"], 1))
    assert (dataset.agreement("A", "A"), dataset.agreement("a", "A"), dataset.agreement("b.", "B")) == (1.0, 0.0, 1.0)


def test_a_corrupt_image_is_named_when_it_is_opened(tmp_path: Path) -> None:
    make_folder(tmp_path, ["cat"], ["cat"])
    broken = tmp_path / "val" / "cat" / "broken.png"
    broken.write_bytes((tmp_path / "val" / "cat" / "0.png").read_bytes()[:60])
    sample = ImageFolder(root=tmp_path).samples()[-1]
    with pytest.raises(UserError, match=re.escape(str(broken))):
        load_image(sample.visual)


def empty_val(root: Path) -> Path:
    make_folder(root, ["cat"], [])
    (root / "val" / "cat").mkdir(parents=True)
    return root


def train_folder_without_images(root: Path) -> Path:
    make_folder(root, ["cat"], ["cat", "dog", "eel"])
    (root / "train" / "dog").mkdir()
    return root


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda root: None, "dataset.root is not given: write dataset.root=FOLDER"),
        (lambda root: root / "nowhere", "nowhere is not a folder"),
        (lambda root: make_folder(root, [], ["cat"]), "folder .*train that can be read, but: No such file"),
        (lambda root: make_folder(root, ["cat"], []), "folder .*val that can be read, but: No such file"),
        (empty_val, "Expected images .* in .*val/<class>/, but there are none"),
        (train_folder_without_images, "dataset image_folder has none for 'dog', 'eel'; add"),
        (lambda root: make_folder(root, [f"c{i}" for i in range(201)], ["c0"], 1), "At most 200 classes .* has 201"),
        (lambda root: make_folder(root, ["cat", "cat."], ["cat"]), "Classes 'cat', 'cat.' cannot be told apart"),
    ],
)
def test_image_folders_that_cannot_be_used(tmp_path: Path, make: Callable[[Path], Path | None], message: str) -> None:
    root = make(tmp_path)
    with pytest.raises(UserError, match=message):
        ImageFolder(root=root)


def test_imagenet_names() -> None:
    names = class_names()
    assert list(names) == sorted(names)
    assert len(set(names.values())) == 100
    assert (names["n01440764"], names["n01855672"]) == ("tench", "goose")
    assert (names["n01514668"], names["n01608432"]) == ("rooster", "kite (bird of prey)")
    assert sum(name != name.lower() for name in names.values()) == 13
    assert sum(not name.replace(" ", "").isalpha() for name in names.values()) == 6
    squeezed = [name.lower().replace(" ", "") for name in names.values()]
    assert [(a, b) for a in squeezed for b in squeezed if a != b and a in b] == [("newt", "smoothnewt")]


def test_imagenet_takes_its_hundred_classes_out_of_the_whole_tree(imagenet: Path) -> None:
    dataset = ImageNet100(root=imagenet)
    assert labels(dataset.pool()) == dict.fromkeys(dataset.classes, 3)
    assert labels(dataset.samples()) == dict.fromkeys(dataset.classes, 2)
    assert dataset.samples()[0].id == "val/n01440764/ILSVRC2012_val_00000000.JPEG"
    demonstrations = dataset.draw(200, 0)
    assert Counter(d.answer for d in demonstrations) == {f"{name}.": 2 for name in dataset.classes}
    assert (dataset.visual_tokens, dataset.max_new_tokens) == (64, 32)
    assert load_image(dataset.samples()[-1].visual).size == (9, 12)
    assert dataset.agreement("A Great white SHARK.", "great white shark") == 1.0


def test_imagenet_inside_the_layout_of_the_paper(imagenet: Path, tmp_path: Path) -> None:
    (tmp_path / "imagenet1k").symlink_to(imagenet)
    assert len(ImageNet100(root=tmp_path).samples()) == 200


def test_imagenet_answers_in_code_words_have_no_full_stop(imagenet: Path) -> None:
    dataset = ImageNet100(root=imagenet)
    code = AnswerCode.for_classes(dataset.classes, ["hen", *(f"word{i}" for i in range(100))])
    answers = [d.answer for d in dataset.draw(100, 0, code=code)]
    assert {code.decode(answer) for answer in answers} == set(dataset.classes)
    assert "hen" in answers
    plain = dataset.draw(100, 0, code=AnswerCode())
    assert all(d.answer.endswith(".") for d in plain)


def test_imagenet_tells_what_is_missing_or_uncommon(
    imagenet: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(UserError, match=r"dataset\.root is not given"):
        ImageNet100()
    (tmp_path / "train").symlink_to(imagenet / "train")
    for wnid in list(class_names())[:-1]:
        (tmp_path / "val" / wnid).mkdir(parents=True)
        (tmp_path / "val" / wnid / "0.JPEG").symlink_to(imagenet / "val" / wnid / "ILSVRC2012_val_00000000.JPEG")
    with pytest.raises(UserError, match=r"none of 'n01855672 \(goose\)'"):
        ImageNet100(root=tmp_path)
    with caplog.at_level(logging.WARNING):
        ImageNet100(root=imagenet)
    assert "50 validation images per class" in caplog.text
    assert "200 images in all" in caplog.text


@pytest.mark.parametrize("path", CONFIGURATIONS, ids=lambda path: path.stem)
def test_each_configuration_is_its_class_with_its_defaults(path: Path) -> None:
    options = OmegaConf.to_container(OmegaConf.load(path))
    assert isinstance(options, dict)
    dataset = get_class(str(options.pop("_target_")))
    assert issubclass(dataset, Dataset)
    assert dataset.name == path.stem
    assert options == {field.name: default(dataset, field) for field in fields(dataset)}


def default(dataset: Any, field: Field[Any]) -> Any:
    """What a configuration has for an option: shared options by name, the constant texts as the class has them."""
    if field.name in ("demonstrations", "scoring"):
        return f"${{{field.name}}}"
    return dict(dataset.wording) if field.name == "prompt" else field.default
