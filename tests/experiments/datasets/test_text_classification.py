"""Texts and labels of the user's own: every kind of table, how it is cut, and what is said about bad ones."""

import json
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
import pytest

from emloc import UserError
from experiments.datasets.hub_texts import Banking77, Clinc150, Trec
from experiments.datasets.labelled_texts import LabelledTexts
from experiments.datasets.text_classification import TextClassification
from experiments.running.assembly import fingerprints
from tests.support.runs import execute, lines

pytest_plugins = ["tests.support.run_fixtures"]

FRUIT = ("apple", "cherry", "fig")
ROWS = [{"text": f"thing {number}", "label": FRUIT[number % 3]} for number in range(30)]


def csv_file(folder: Path, rows: Sequence[dict[str, Any]] = ROWS, *, name: str = "rows.csv", comma: str = ",") -> Path:
    lines = [comma.join(rows[0]), *(comma.join(f'"{cell}"' for cell in row.values()) for row in rows)]
    folder.mkdir(exist_ok=True)
    (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder / name


def tsv_file(folder: Path) -> Path:
    return csv_file(folder, name="rows.tsv", comma="\t")


def json_file(folder: Path) -> Path:
    (folder / "rows.json").write_text(json.dumps(ROWS))
    return folder / "rows.json"


def json_lines(folder: Path, rows: Sequence[dict[str, Any]] = ROWS, name: str = "rows.jsonl") -> Path:
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder / name


def parquet_file(folder: Path) -> Path:
    datasets.Dataset.from_list(ROWS).to_parquet(str(folder / "rows.parquet"))
    return folder / "rows.parquet"


def class_labels(folder: Path, names: Sequence[str] = ("fig", "apple", "cherry", "plum")) -> Path:
    rows = [{**row, "label": names.index(row["label"])} for row in ROWS]
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=list(names))})
    datasets.Dataset.from_list(rows, features=features).to_parquet(str(folder / "rows.parquet"))
    return folder / "rows.parquet"


def made(path: Path, **options: Any) -> TextClassification:
    return TextClassification(path=path, **{"pool_size": 12, **options})


@pytest.mark.parametrize("write", [csv_file, tsv_file, json_file, json_lines, parquet_file, class_labels])
def test_one_file_is_cut_into_a_balanced_pool_and_the_other_rows(write: Callable[[Path], Path], tmp_path: Path) -> None:
    dataset = made(write(tmp_path))
    assert Counter(sample.label for sample in dataset.pool()) == dict.fromkeys(FRUIT, 4)
    everything = [*dataset.pool(), *dataset.samples()]
    assert sorted(int(sample.id.removeprefix("train/")) for sample in everything) == list(range(30))
    for part in (dataset.pool(), dataset.samples()):
        numbers = [int(sample.id.removeprefix("train/")) for sample in part]
        assert numbers == sorted(numbers)
        assert [(s.question, s.label) for s in part] == [(f"thing {n}\nLabel:", FRUIT[n % 3]) for n in numbers]
    assert all(sample.visual is None for sample in everything)
    assert [s.id for s in made(dataset.path).pool()] == [s.id for s in dataset.pool()]  # type: ignore[arg-type]


def test_classes_are_sorted_or_in_the_order_of_the_column(tmp_path: Path) -> None:
    assert made(csv_file(tmp_path)).classes == FRUIT
    assert made(class_labels(tmp_path)).classes == ("fig", "apple", "cherry", "plum")
    dataset = made(class_labels(tmp_path))
    assert dataset.baselines(dataset.samples())["chance"] == 1 / 4


def test_chance_and_majority(tmp_path: Path) -> None:
    rows = [{"text": f"thing {n}", "label": "fig" if n % 4 else "apple"} for n in range(40)]
    dataset = made(csv_file(tmp_path, [*rows, {"text": "", "label": "apple"}]), pool_size=4)
    queries = Counter(sample.label for sample in dataset.samples() if sample.problem is None)
    assert queries == {"fig": 28, "apple": 8}
    assert dataset.baselines(dataset.samples()) == {"chance": 1 / 2, "majority": 28 / 36}


def test_splits_of_a_folder_and_two_files(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    csv_file(folder, ROWS[:10], name="train.csv")
    csv_file(folder, ROWS[10:], name="test.csv")
    for dataset in (made(folder), made(folder / "train.csv", test_path=folder / "test.csv")):
        assert [sample.id for sample in dataset.pool()] == [f"train/{n}" for n in range(10)]
        assert [sample.id for sample in dataset.samples()] == [f"test/{n}" for n in range(20)]
        assert dataset.samples()[0].question == "thing 10\nLabel:"


def test_a_split_can_be_cut_too(tmp_path: Path) -> None:
    datasets.DatasetDict({"dev": datasets.Dataset.from_list(ROWS)}).save_to_disk(str(tmp_path / "saved"))
    dataset = made(tmp_path / "saved", train_split="dev", test_split="dev")
    assert (len(dataset.pool()), len(dataset.samples())) == (12, 18)


def test_a_subset_is_a_folder_of_the_copy(tmp_path: Path) -> None:
    for subset, rows in (("small", ROWS[:6]), ("plus", ROWS)):
        for split in ("train", "test"):
            half = rows[::2] if split == "train" else rows[1::2]
            (tmp_path / subset).mkdir(exist_ok=True)
            json_lines(tmp_path / subset, half, f"{split}-00000-of-00001.jsonl")
    assert len(made(tmp_path, subset="plus").pool()) == 15
    assert len(made(tmp_path, subset="small").pool()) == 3


def test_cells_of_a_csv_are_taken_as_written(tmp_path: Path) -> None:
    cells = ["007", "NA", "null", "1.50", "a, b", "two\nlines", "Zürich", "  x "]
    rows = [{"text": cell, "label": label} for cell in cells for label in ["NA"]]
    dataset = made(csv_file(tmp_path, [*rows, {"text": "y", "label": "1.0"}]), pool_size=1, question="{text}")
    asked = [sample.question for sample in [*dataset.pool(), *dataset.samples()]]
    assert Counter(asked) == Counter([*cells, "y"])
    assert dataset.classes == ("1.0", "NA")


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path: Path) -> None:
    file = csv_file(tmp_path)
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    assert made(file).classes == FRUIT


@pytest.mark.parametrize(
    ("labels", "names", "classes"),
    [
        ([0, 1, 2], {0: "no", 1: "yes", 2: "maybe"}, ("maybe", "no", "yes")),
        ([0, 1, 2], {"2": "many"}, ("0", "1", "many")),
        ([0, 1, 2], None, ("0", "1", "2")),
        ([True, False, True], {"True": "yes"}, ("False", "yes")),
        ([0.0, 1.0, 2.0], {0: "zero"}, ("1", "2", "zero")),
        (["a", "b", "c"], {"b": "a"}, ("a", "c")),
    ],
)
def test_names_of_labels(
    labels: list[Any], names: Mapping[Any, str] | None, classes: tuple[str, ...], tmp_path: Path
) -> None:
    rows = [{"text": f"thing {n}", "label": labels[n % 3]} for n in range(12)]
    dataset = made(json_lines(tmp_path, rows), pool_size=3, names=names)
    assert dataset.classes == classes
    assert {sample.label for sample in [*dataset.pool(), *dataset.samples()]} == set(classes)


def test_names_of_a_columns_own_labels(tmp_path: Path) -> None:
    dataset = made(class_labels(tmp_path), names={"apple": "Apfel", "fig": "Feige"})
    assert dataset.classes == ("Feige", "Apfel", "cherry", "plum")
    assert {sample.label for sample in dataset.pool()} == {"Feige", "Apfel", "cherry"}


def test_other_columns_and_another_question(tmp_path: Path) -> None:
    rows = [{"title": f"{{n}} {n}", "kind": "a" if n % 2 else "b", "text": "unused"} for n in range(10)]
    dataset = made(
        csv_file(tmp_path, rows), pool_size=4, text_column="title", label_column="kind", question="Title: {text}, kind?"
    )
    assert dataset.pool()[0].question.startswith("Title: {n} ")
    assert fingerprints(dataset)["question"].characters == len("Title: {text}, kind?")


def test_no_query_has_a_text_of_the_pool(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    train, test = ROWS[:12], [ROWS[3], *ROWS[12:20], ROWS[5]]
    dataset = made(csv_file(tmp_path, train, name="a.csv"), test_path=csv_file(tmp_path, test, name="b.csv"))
    with caplog.at_level(logging.WARNING):
        assert [sample.id for sample in dataset.pool()] == [f"train/{n}" for n in range(12) if n not in (3, 5)]
    assert len(dataset.samples()) == 10  # the queries are as they were
    assert "2 rows of" in caplog.text
    twice = made(csv_file(tmp_path, [*ROWS, *ROWS[:9]]))
    texts = [{sample.question for sample in part} for part in (twice.pool(), twice.samples())]
    assert not texts[0] & texts[1]
    assert [len(part) for part in (twice.pool(), twice.samples())] == [12, 27]


def test_rows_that_cannot_be_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    lines = ["text,label", "one,fig", ",fig", "three,", "four, five,fig", "six", '"seven","two\nlines"', "eight,apple"]
    train = csv_file(tmp_path, ROWS[:6], name="train.csv")
    (tmp_path / "test.csv").write_text("\n".join(lines) + "\n")
    queries = made(train, test_path=tmp_path / "test.csv").samples()
    assert [sample.id for sample in queries] == [f"test/{n}" for n in range(7)]
    where = f"of {tmp_path / 'test.csv'}"
    assert [sample.problem for sample in queries][1:6] == [
        f"Row 1 {where} should have a text that is not empty as 'text', but has \"\".",
        f"Row 2 {where} should have a text that is not empty as 'label', but has \"\".",
        *(
            f"Row {n} {where} has neither 'text' nor 'label'; in a CSV file this is a row with more or fewer cells "
            "than the first line (a text with a comma needs quotes)."
            for n in (3, 4)
        ),
        f"Row 5 {where} should have a label of one line as 'label', but has \"two\\nlines\".",
    ]
    assert [sample.problem for sample in (queries[0], queries[6])] == [None, None]
    with pytest.raises(UserError, match=r"Row 1 .*test\.csv"):
        made(train, test_path=tmp_path / "test.csv").query(queries[1])
    with caplog.at_level(logging.WARNING):
        pool = made(tmp_path / "test.csv", test_path=train).pool()
    assert [sample.id for sample in pool] == ["train/0", "train/6"]
    assert "5 of 7 rows cannot demonstrate. The first: Row 1" in caplog.text


def test_labels_that_a_column_does_not_know(tmp_path: Path) -> None:
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["a", "b"])})
    rows = [{"text": f"thing {n}", "label": n % 2 if n else -1} for n in range(8)]
    datasets.Dataset.from_list(rows, features=features).to_parquet(str(tmp_path / "rows.parquet"))
    first = made(tmp_path / "rows.parquet", pool_size=2).samples()[0]
    assert first.problem is not None
    assert first.problem.endswith("should have a number from 0 to 1 as 'label', but has -1.")


def latin(folder: Path) -> Path:
    (folder / "rows.csv").write_bytes("text,label\nZürich,fig\n".encode("latin-1"))
    return folder / "rows.csv"


def written(text: str, name: str = "rows.csv") -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        (folder / name).write_text(text)
        return folder / name

    return write


def unlike_files(folder: Path) -> Path:
    csv_file(folder / "all", name="a.csv")
    csv_file(folder / "all", [{"text": "x", "kind": "y"}], name="b.csv")
    return folder / "all"


def no_splits(folder: Path) -> Path:
    return csv_file(folder / "all").parent


def many_classes(folder: Path) -> Path:
    return csv_file(folder, [{"text": f"t {n}", "label": f"l {n}"} for n in range(1200)])


def twins(folder: Path) -> Path:
    return csv_file(folder, [{"text": f"t {n}", "label": "cat" if n % 2 else "cat."} for n in range(20)])


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (latin, "Expected a table in UTF-8 in .*rows.csv, but it cannot be read"),
        (written(""), "Expected the first line of .*rows.csv to name every column once, but it is ''"),
        (written("text,text\na,b\n"), "to name every column once, but it is 'text, text'"),
        (written('text,label\n"a,b\n'), "Expected a table in UTF-8 in .* cannot be read"),
        (written("text;label\na;b\n"), "Expected the columns text, label in .*; it has text;label"),
        (written('{"text": "a"', "rows.json"), "correct it, or name another file with dataset.path=FILE"),
        (unlike_files, "Expected the columns text, label in .*b.csv, as in the first file; got text, kind"),
        (no_splits, "whose texts are not the queries', but there are none; .*dataset.test_split must be the same"),
        (lambda folder: csv_file(folder, ROWS[:12]), "Expected more than 12 rows .*, but found 12; use more rows"),
        (lambda folder: csv_file(folder, [ROWS[0]] * 30), "Expected more than 12 rows .*, but found 0; use more rows"),
        (many_classes, "At most 1000 classes can be used, but 'label' in .* has 1200; name the column"),
        (twins, "Classes 'cat.?', 'cat.?' cannot be told apart in an answer; give one of them another name"),
    ],
)
def test_tables_that_cannot_be_used(write: Callable[[Path], Path], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message) as caught:
        _ = made(write(tmp_path)).classes
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"path": None}, "dataset.path is not given: write dataset.path=FILE .*or dataset.hub_id=OWNER/NAME"),
        ({"question": "What?"}, r"Expected \{text\} in dataset.question, .*, but got 'What\?'"),
        ({"text_column": ""}, "Expected text_column to be a text that is not empty, but got ''"),
        ({"pool_size": 0}, "Expected pool_size to be a whole number from 1 up, but got 0"),
        ({"names": {0: 7}}, r"Expected names\.0 to be a text that is not empty, but got 7"),
    ],
)
def test_options_out_of_range(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        made(**{"path": csv_file(tmp_path), **options})


def test_names_of_labels_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no row has 'aple'; there are 'apple', .* Did you mean 'apple'\?"):
        _ = made(csv_file(tmp_path), names={"aple": "Apfel"}).classes


def test_a_class_without_demonstrations(tmp_path: Path) -> None:
    train = csv_file(tmp_path, [row for row in ROWS[:9] if row["label"] != "fig"], name="a.csv")
    dataset = made(train, test_path=csv_file(tmp_path, ROWS[9:], name="b.csv"))
    with pytest.raises(UserError, match="has none for 'fig'; add rows of these classes to the demonstrations"):
        dataset.draw(4, 0)


def test_an_answer_is_its_first_line(tmp_path: Path) -> None:
    dataset = made(csv_file(tmp_path))
    sample = next(sample for sample in dataset.samples() if sample.label == "fig")
    for text, right in (("fig", 1), (" Fig.\n\nthing 3", 1), ("\nfig\n", 1), ("a fig", 0), ("cherry\nfig", 0), ("", 0)):
        assert dataset.score(dataset.read(text), sample) == {"accuracy": right}


HUB: list[tuple[type[TextClassification], dict[str, list[str]]]] = [
    (Trec, {"coarse_label": ["ABBR", "ENTY", "DESC", "HUM", "LOC", "NUM"]}),
    (Trec, {"fine_label": ["ABBR:abb", "ABBR:exp", "ENTY:animal"]}),
    (Banking77, {"label": ["activate_my_card", "age_limit"]}),
    (Clinc150, {"intent": ["restaurant_reviews", "nutrition_info", "oos"]}),
]


@pytest.mark.parametrize(("kind", "labels"), HUB)
def test_sets_on_the_hub_from_a_copy_with_their_columns(
    kind: type[TextClassification], labels: dict[str, list[str]], tmp_path: Path
) -> None:
    (column, names), *_ = labels.items()
    features = datasets.Features({"text": datasets.Value("string"), column: datasets.ClassLabel(names=names)})
    folder = tmp_path / (kind.subset or "default")
    for split in ("train", "test"):
        rows = [{"text": f"{split} {n}", column: n % len(names)} for n in range(12)]
        datasets.Dataset.from_list(rows, features=features).to_parquet(str(folder / split / "0000.parquet"))
    options = {"label_column": column} if column == "fine_label" else {}
    dataset: LabelledTexts = kind(path=tmp_path, **options)
    assert (len(dataset.pool()), len(dataset.samples())) == (12, 12)
    assert dataset.classes == tuple(kind.usual_names.get(name, name) for name in names)
    assert dataset.samples()[0].label == dataset.classes[0]


@pytest.mark.parametrize("kind", [Trec, Banking77, Clinc150])
def test_without_a_network_one_sentence_says_what_to_download(kind: type[TextClassification]) -> None:
    with pytest.raises(UserError, match=rf"hf download {kind.hub_id} .*dataset\.path=DIR") as caught:
        kind().pool()
    assert "\n" not in str(caught.value)
    assert (f"--revision {kind.revision} " in str(caught.value)) == (kind.revision is not None)


def test_a_run_stops_at_a_broken_row_or_leaves_it_out(checkpoint: Path, tmp_path: Path) -> None:
    file = csv_file(tmp_path, [{**row, "label": FRUIT.index(row["label"])} for row in ROWS])
    file.write_text(file.read_text() + "one, two, three\n")
    options = [
        "dataset=text_classification", f"dataset.path={file}", "dataset.pool_size=9", "dataset.max_new_tokens=2",
        'dataset.question="Thing: {text}\\nKind:"', "dataset.names={0: apple, 1: cherry, 2: fig}", "shots=6",
        "chunk_size=3", f"model.path={checkpoint}", "device=cpu", f"hydra.run.dir={tmp_path / 'run'}",
    ]  # fmt: skip
    with pytest.raises(UserError, match=r"Row 30 of .*rows\.csv has neither 'text' nor 'label'.*on_error=skip"):
        execute(*options)
    record = execute(*options, "on_error=skip")
    assert (record.metric.n, list(record.skipped)) == (21, ["train/30"])
    assert {line["target"] for line in lines(tmp_path / "run")} <= set(FRUIT)
    assert set(record.metric.parts) == set(FRUIT)
