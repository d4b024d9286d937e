"""The bundled tasks: what is in their tables, that nothing in them gives answers away, and how they are asked."""

import csv
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path

import pytest

from emloc import UserError, load_backbone
from experiments.datasets import make_bundled
from experiments.datasets.bundled_texts import FOLDER, BundledTexts
from experiments.datasets.cities import Cities
from experiments.datasets.kinds import KINDS, Kinds
from experiments.datasets.languages import Languages
from experiments.datasets.novels import NOVELS, Novels
from experiments.datasets.topics import TOPICS, Topics
from tests.experiments.datasets.test_prompts import conversation
from tests.support.runs import ROOT

SIZES = {
    Cities: (30, 50),
    Languages: (30, 50),
    Topics: (30, 50),
    Kinds: (30, 50),
    Novels: (35, 35),
}  # pool and queries of each class
TASKS = list(SIZES)
SHORT = [Cities, Languages, Topics, Kinds]


def whole(task: type[BundledTexts]) -> BundledTexts:
    return task(class_count=len(task.all_classes), question="{text}")


def texts(task: type[BundledTexts]) -> list[tuple[str, str]]:
    """Every text of a task with its label."""
    dataset = whole(task)
    return [(sample.question, sample.label) for sample in [*dataset.pool(), *dataset.samples()]]


def letters(text: str) -> str:
    plain = unicodedata.normalize("NFKD", text).casefold()
    return "".join(character for character in plain if character.isalnum())


@pytest.mark.parametrize("task", TASKS)
def test_every_class_has_the_same_number_of_rows(task: type[BundledTexts]) -> None:
    dataset, (pool, queries) = whole(task), SIZES[task]
    assert Counter(sample.label for sample in dataset.pool()) == dict.fromkeys(dataset.classes, pool)
    assert Counter(sample.label for sample in dataset.samples()) == dict.fromkeys(dataset.classes, queries)
    assert len({sample.id for sample in [*dataset.pool(), *dataset.samples()]}) == len(texts(task))
    share = 1 / len(dataset.classes)
    assert dataset.baselines(dataset.samples()) == pytest.approx({"chance": share, "majority": share})


@pytest.mark.parametrize("task", TASKS)
def test_no_text_occurs_twice_under_any_spelling(task: type[BundledTexts]) -> None:
    found = [letters(text) for text, _ in texts(task)]
    assert all(found)
    assert len(set(found)) == len(found)


@pytest.mark.parametrize("task", TASKS)
def test_texts_are_clean(task: type[BundledTexts]) -> None:
    for text, _ in texts(task):
        assert text == unicodedata.normalize("NFC", text) == " ".join(text.split())
        assert all(unicodedata.category(character) not in ("Cc", "Cf", "Co", "Cn") for character in text)


def test_no_city_has_its_country_in_its_name_and_no_definition_its_label() -> None:
    assert not [text for text, label in texts(Cities) if letters(label) in letters(text)]
    labels = [*TOPICS, *KINDS.values()]
    begin = {label: re.compile("|".join(rf"\b{word[:5]}" for word in label.split()), re.IGNORECASE) for label in labels}
    assert not [text for text, label in [*texts(Topics), *texts(Kinds)] if begin[label].search(text)]


def test_no_passage_has_a_word_of_its_novels_title() -> None:
    titles = {novel: [word for word in novel.split() if word != "and"] for novel in NOVELS}
    assert not [text for text, label in texts(Novels) if any(word in text for word in titles[label])]


def test_names_of_places_are_in_latin_letters() -> None:
    for text, _ in texts(Languages):
        assert all(unicodedata.name(character).startswith("LATIN") for character in text if character.isalpha())


def test_passages_are_long_and_do_not_overlap() -> None:
    assert all(220 <= len(text.split()) <= 420 for text, _ in texts(Novels))
    owners: dict[str, set[int]] = defaultdict(set)
    for number, (text, _) in enumerate(texts(Novels)):
        words = text.split()
        for start in range(len(words) - 14):
            owners[" ".join(words[start : start + 15])].add(number)
    assert all(len(found) == 1 for found in owners.values())


@pytest.mark.parametrize("task", SHORT)
def test_fewer_classes_are_the_first_ones_with_the_same_rows(task: type[BundledTexts]) -> None:
    few, many = task(class_count=3), task()
    assert few.classes == many.classes[:3] == task.all_classes[:3]
    assert len(many.classes) == 10
    assert few.samples() == [sample for sample in many.samples() if sample.label in few.classes]
    assert few.pool() == [sample for sample in many.pool() if sample.label in few.classes]


@pytest.mark.parametrize("task", SHORT)
def test_the_usual_size_is_300_candidates_and_500_queries(task: type[BundledTexts]) -> None:
    assert (len(task().pool()), len(task().samples())) == (300, 500)
    assert len({sample.label for sample in task().samples()[:60]}) == 10  # not one class after the other


@pytest.mark.parametrize("count", [1, 13, 2.0])
def test_class_counts_that_cannot_be(count: int) -> None:
    with pytest.raises(UserError, match="Expected class_count to be") as caught:
        Topics(class_count=count)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("task", TASKS)
def test_conversation(task: type[BundledTexts], golden: Callable[[str, str], None]) -> None:
    golden(f"{task.name}.txt", conversation(task(), load_backbone("tiny", device="cpu")))


@pytest.mark.parametrize("file", sorted(FOLDER.glob("*.csv")), ids=lambda file: file.stem)
def test_every_table_is_small_utf8_and_documented(file: Path) -> None:
    data = file.read_bytes()
    assert len(data) < 300_000
    assert b"\r" not in data
    assert next(csv.reader(data.decode("utf-8").splitlines())) == ["split", "label", "text"]
    assert f"`{file.name}`" in (FOLDER / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("task", TASKS)
def test_every_task_is_documented(task: type[BundledTexts]) -> None:
    text = (ROOT / "docs" / "DATASETS.md").read_text(encoding="utf-8")
    pool, queries = SIZES[task]
    row = next(line for line in text.splitlines() if line.startswith(f"| `{task.name}` | "))
    used = len(task().classes)
    assert f"| {used} of {len(task.all_classes)} | {pool * used} / {queries * used} |" in row


def test_rows_are_drawn_the_same_every_time_and_never_twice() -> None:
    found = {"a": [f"a {n}" for n in range(20)], "b": [f"b {n}" for n in range(9)]}
    rows = list(make_bundled.drawn(found, {"pool": 3, "query": 5}))
    assert rows == list(make_bundled.drawn(found, {"pool": 3, "query": 5}))
    assert len({text for _, _, text in rows}) == len(rows) == 16
    assert Counter((split, label) for split, label, _ in rows) == {
        ("pool", "a"): 3, ("pool", "b"): 3, ("query", "a"): 5, ("query", "b"): 5,
    }  # fmt: skip
    assert all(text.startswith(label) for _, label, text in rows)


def test_texts_that_two_labels_have_are_left_out() -> None:
    found = {"a": ["São Paulo", "Lima", "LIMA", "Rio"], "b": ["Sao  Paulo", "Oslo"]}
    assert make_bundled.own_only(found) == {"a": ["Lima", "Rio"], "b": ["Oslo"]}


WORDNET = """  1 The licence.
00000010 00 n 01 law 0 000 @ | the field
00000020 00 n 02 tort 0 civil_wrong 0 002 @ 00000010 n 0000 ;c 00000010 n 0000 | (law) any wrongdoing; "a tort it was"
00000030 00 n 01 lawyer 0 001 ;c 00000010 n 0000 | a professional
00000040 00 n 01 plea 0 002 ;c 00000010 n 0000 ;c 00000050 n 0000 | of two fields
00000050 00 n 01 music 0 000 | another field
00000060 00 n 01 chord 0 001 ;c 00000050 n 0000 | notes; together
00000070 05 n 02 goose 0 grey_goose 1 000 | a bird with a long neck
00000080 05 n 01 Babe 0 000 | a pig of renown
00000090 05 n 01 cub 0 000 | a young animal
00000100 13 n 01 grey_goose 0 000 | a dish
00000095 05 n 01 cur 0 000 | (vulgar) a dog
00000110 13 n 01 chowder 0 000 | a soup
"""


def test_definitions_are_read_from_wordnets_own_format(tmp_path: Path) -> None:
    folder = tmp_path / "usr" / "share" / "wordnet"
    folder.mkdir(parents=True)
    for kind in ("noun", "verb", "adj", "adv"):
        (folder / f"data.{kind}").write_text(WORDNET if kind == "noun" else "")
    topics, kinds = make_bundled.topics(tmp_path), make_bundled.kinds(tmp_path)
    assert {label: of for label, of in topics.items() if of} == {
        "law": ["tort: any wrongdoing"],
        "music": ["chord: notes; together"],
    }
    assert {label: of for label, of in kinds.items() if of} == {
        "animal": ["goose: a bird with a long neck"],
        "food": ["chowder: a soup"],
    }


def test_passages_end_with_a_sentence() -> None:
    short = "She saw him. "
    lines = ["EMMA", "CHAPTER I", short * 73, "Then Mr. Knightley came.", "CHAPTER II", short * 73, "No. Yes.", short]
    passages = list(make_bundled._passages(lines))
    assert [len(passage.split()) for passage in passages] == [223, 220]
    assert [passage.split()[-1] for passage in passages] == ["came.", "No."]
