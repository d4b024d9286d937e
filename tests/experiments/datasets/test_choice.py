"""Which rows demonstrate: the paper's public draw at the real sizes, and all rules on small copies."""

from collections import Counter
from pathlib import Path

import pytest

from emloc import UserError
from experiments.datasets.choice import reference_draw
from experiments.datasets.imagenet100 import ImageNet100, class_names
from tests.support.imagenet import imagenet_tree, reference_list
from tests.support.published import BENCHMARKS

POOL = 100
# Positions in the pool, and rows of the split, of the public implementation's 20 demonstrations, in its order.
POSITIONS = [81, 14, 3, 94, 35, 31, 28, 17, 13, 86, 69, 11, 75, 54, 4, 27, 29, 64, 77, 71]
ROWS = {
    ("illusionvqa_soft_localization", 1000): [
        233, 89, 759, 373, 284, 429, 665, 32, 558, 978, 849, 758, 591, 367, 281, 733, 718, 127, 721, 633,
    ],
    ("illusionvqa_comprehension", 435): [
        186, 302, 379, 429, 3, 112, 359, 15, 44, 343, 35, 431, 414, 22, 140, 332, 422, 316, 386, 338,
    ],
    ("mme_realworld_lite", 1919): [
        592, 178, 1518, 1372, 1657, 451, 1330, 65, 1116, 928, 1266, 1516, 1442, 1236, 563, 1466, 1436, 161, 93, 1764,
    ],
    ("ok_vqa", 5046): [
        2656, 1791, 2006, 3241, 837, 2276, 1307, 4931, 767, 3286, 2187, 260, 1338, 569, 1828, 53, 3462, 2988, 3108,
        4990,
    ],
    ("screenspot", 1272): [
        135, 447, 501, 1197, 198, 440, 865, 1232, 191, 1022, 334, 65, 664, 466, 457, 326, 696, 546, 469, 777,
    ],
    ("youcook2", 3179): [
        666, 2418, 3037, 2187, 26, 902, 2872, 122, 356, 1093, 284, 3033, 326, 177, 1126, 2661, 2232, 2533, 413, 2708,
    ],
}  # fmt: skip


@pytest.mark.parametrize(("benchmark", "rows"), ROWS.items(), ids=lambda value: value[0])
def test_rows_of_the_public_draw(benchmark: tuple[str, int], rows: list[int]) -> None:
    name, size = benchmark
    pool = reference_draw(size, POOL)
    assert [pool[position] for position in reference_draw(POOL, 20)] == rows
    assert len(set(pool)) == POOL
    if name in BENCHMARKS:
        assert BENCHMARKS[name].dataset.rows == size


def test_positions_in_the_pool() -> None:
    assert reference_draw(POOL, 20) == POSITIONS


def test_up_to_21_of_100_fewer_are_the_beginning_of_more() -> None:
    longest = reference_draw(POOL, 21)
    assert all(reference_draw(POOL, count) == longest[:count] for count in range(22))


def test_from_22_of_100_on_another_draw_begins() -> None:
    assert reference_draw(POOL, 22)[:15] == POSITIONS[:15]
    assert reference_draw(POOL, 22)[15] == 97
    assert sorted(reference_draw(POOL, POOL)) == list(range(POOL))


@pytest.mark.parametrize("name", BENCHMARKS)
def test_pool_and_evaluation_part_the_split(name: str, tmp_path: Path) -> None:
    benchmark = BENCHMARKS[name]
    copy = benchmark.write(tmp_path, benchmark.rows(12))
    dataset = benchmark.dataset(path=copy, rows=None, pool_size=4)
    split = dataset.split
    assert [sample.id for sample in dataset.pool()] == [f"{split}/{row}" for row in (10, 1, 0, 4)]
    assert [sample.id for sample in dataset.samples()] == [f"{split}/{row}" for row in (2, 3, 5, 6, 7, 8, 9, 11)]
    drawn = [dataset.pool()[position].id for position in reference_draw(4, 3)]
    assert [item.id for item in dataset.draw(3, 0)] == [item.id for item in dataset.draw(3, 7)] == drawn


def test_other_rules_on_a_published_benchmark(tmp_path: Path) -> None:
    benchmark = BENCHMARKS["screenspot"]
    copy = benchmark.write(tmp_path, benchmark.rows(20))
    first = benchmark.dataset(path=copy, rows=None, pool_size=9, demonstrations="first")
    assert [item.id for item in first.draw(3, 0)] == [sample.id for sample in first.pool()[:3]]
    balanced = benchmark.dataset(path=copy, rows=None, pool_size=9, demonstrations="balanced")
    kinds = {sample.id: sample.group for sample in balanced.pool()}
    drawn = balanced.draw(9, 3)
    assert [item.id for item in balanced.draw(5, 3)] == [item.id for item in drawn[:5]]
    pairs = min(Counter(kinds.values()).values())
    assert all(kinds[drawn[2 * pair].id] != kinds[drawn[2 * pair + 1].id] for pair in range(pairs))
    assert pairs > 1


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return imagenet_tree(tmp_path_factory.mktemp("data") / "imagenet1k", train=2, val=1)


def listed_images() -> list[str]:
    """Images as the public list has them: of classes in no order, some twice."""
    names = list(class_names())
    return [f"{names[number]}/{names[number]}_{image}.JPEG" for number, image in ((44, 1), (7, 0), (89, 1), (44, 0))]


@pytest.mark.parametrize(("root", "place"), [("", ""), ("", "data"), ("../", ""), ("../", "data")])
def test_imagenets_demonstrations_are_the_first_of_the_public_list(tree: Path, root: str, place: str) -> None:
    root_folder = tree / root
    folder = reference_list(root_folder / place, listed_images())
    try:
        dataset = ImageNet100(root=root_folder, demonstrations="reference")
        drawn = dataset.draw(3, 5)
        assert [item.id for item in drawn] == [f"train/{image}" for image in listed_images()[:3]]
        assert [Path(str(item.visual)).resolve() for item in drawn] == [(tree / item.id).resolve() for item in drawn]
        names = list(class_names().values())
        assert [item.answer for item in drawn] == [f"{names[number]}." for number in (44, 7, 89)]
        assert {item.question for item in drawn} == {dataset.question}
        with pytest.raises(UserError, match="has 4 demonstrations, but shots=5"):
            dataset.draw(5, 0)
    finally:
        for file in folder.glob("*.json"):
            file.unlink()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "copy it there from data/ of the paper's public implementation"),
        ("{", "Expected a JSON list of rows with an image"),
        ('[{"answer": "tench."}]', "Expected a JSON list of rows with an image"),
        ('[{"image": "val/n01440764/x.JPEG"}]', "but it names 'val/n01440764/x.JPEG'"),
        ('[{"image": "train/n09999999/x.JPEG"}]', "but it names 'train/n09999999/x.JPEG'"),
        ('[{"image": "x"}]', "but it names 'x'"),
        ('[{"image": "train/n01440764/x.JPEG"}]', r"n01440764/x\.JPEG does not exist; add it"),
    ],
)
def test_lists_of_imagenet_that_cannot_be_used(tree: Path, tmp_path: Path, text: str | None, message: str) -> None:
    for split in ("train", "val"):
        (tmp_path / split).symlink_to(tree / split)
    if text is not None:
        (tmp_path / "lmms_eval_ImageNet100_train.json").write_text(text)
    dataset = ImageNet100(root=tmp_path, demonstrations="reference")
    with pytest.raises(UserError, match=message) as caught:
        dataset.draw(1, 0)
    assert "\n" not in str(caught.value)
