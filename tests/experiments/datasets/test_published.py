"""Published benchmarks from a small local copy to the record, and what is said about copies that cannot be used."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from emloc import UserError
from emloc.prompt import load_image
from experiments.datasets.mme_realworld_lite import MMERealWorldLite
from experiments.datasets.ok_vqa import OKVQA
from experiments.datasets.published import Published
from experiments.datasets.screenspot import ScreenSpot
from experiments.records.schema import Record
from tests.support.published import BENCHMARKS, Rows
from tests.support.runs import composed, execute, lines

pytest_plugins = ["tests.support.run_fixtures"]

DATASETS: dict[str, type[Published]] = {name: benchmark.dataset for name, benchmark in BENCHMARKS.items()}


def run_of(name: str, copy: Path, folder: Path, *options: str) -> Record:
    """A run of 4 demonstrations and 4 queries."""
    return execute(
        f"dataset={name}", f"dataset.path={copy}", "dataset.rows=null", "dataset.pool_size=6", "shots=4",
        "dataset.max_new_tokens=2", "device=cpu", "batch_size=3", f"hydra.run.dir={folder}", *options,
    )  # fmt: skip


def written(name: str, folder: Path, change: Callable[[Rows], object] = lambda rows: None) -> Path:
    """A copy of 10 rows, after the change; rows 1, 0, 4, 9, 6, 5 are the pool, 2, 3, 7, 8 the queries."""
    rows = BENCHMARKS[name].rows(10)
    change(rows)
    return BENCHMARKS[name].write(folder / "copy", rows)


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_run_of_every_benchmark_leaves_its_record(name: str, checkpoint: Path, tmp_path: Path) -> None:
    copy = written(name, tmp_path)
    options = [f"model.path={checkpoint}", "model.visual_tokens=dataset", "method.chunk_size=2"]
    record = run_of(name, copy, tmp_path / "run", *options)
    split = DATASETS[name].split
    assert record.demonstrations.rule == "reference"
    assert record.demonstrations.ids == [f"{split}/{row}" for row in (5, 1, 6, 4)]
    assert [line["id"] for line in lines(tmp_path / "run")] == [f"{split}/{row}" for row in (2, 3, 7, 8)]
    names = [metric.name for metric in (record.metric, *record.other_metrics)]
    assert names == [spec.name for spec in DATASETS[name].metrics]
    assert {metric.n for metric in (record.metric, *record.other_metrics)} == {4}
    assert set(record.prompt_fingerprint) == set(DATASETS[name].wording)
    assert not record.skipped
    assert record.context.tokens_full > 4 * 230  # about 256 per image, as the benchmark says, and text


@pytest.mark.parametrize("name", BENCHMARKS)
def test_the_embedded_model_can_be_asked(name: str, tmp_path: Path) -> None:
    copy = written(name, tmp_path)
    record = run_of(name, copy, tmp_path / "run", "shots=2", "limit=2", "method=none")
    assert record.metric.n == 2
    assert record.answers.coded == bool(DATASETS[name](path=copy).classes)


@pytest.mark.parametrize("name", BENCHMARKS)
def test_the_pool_is_set_aside_at_zero_shots_too(name: str, checkpoint: Path, tmp_path: Path) -> None:
    options = ["shots=0", "method=zero_shot", f"model.path={checkpoint}", "model.visual_tokens=checkpoint"]
    record = run_of(name, written(name, tmp_path), tmp_path / "run", *options)
    assert (record.metric.n, record.demonstrations.ids) == (4, [])


@pytest.mark.parametrize("name", BENCHMARKS)
def test_images_are_those_of_the_rows(name: str, tmp_path: Path) -> None:
    dataset = DATASETS[name](path=written(name, tmp_path), rows=None, pool_size=6)
    images = [load_image(sample.visual).tobytes() for sample in [*dataset.pool(), *dataset.samples()]]  # type: ignore
    assert len(set(images)) == 10
    assert load_image(dataset.samples()[0].visual).size == (24, 16)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", BENCHMARKS)
def test_options_reach_the_dataset(name: str) -> None:
    node = composed(f"dataset={name}", "scoring=strict", "demonstrations=first").dataset
    assert (node.scoring, node.demonstrations) == ("strict", "first")
    assert node.rows == DATASETS[name].rows


def set_cell(row: int, column: str, value: Any) -> Callable[[Rows], None]:
    def change(rows: Rows) -> None:
        rows[row][column] = value

    return change


TEXT, OPTIONS = "a text that is not empty as", "one of at most 6 options as 'answer', but has"
# Cells of queries that cannot be used, one to a row, and what is said of them.
DAMAGED = {
    "illusionvqa_comprehension": [
        ("answer", "Thing 9.9", f'{OPTIONS} "Thing 9.9"'),
        ("options", [], "a list of texts as 'options', but has []"),
        ("options", ["Thing 5.2", *"abcdef"], f'{OPTIONS} "Thing 5.2"'),  # row 5: one option too many
    ],
    "illusionvqa_soft_localization": [
        ("question", None, f"{TEXT} 'question', but has null"),
        ("image", {"bytes": b"GIF89a but no more", "path": "x.gif"}, "as 'image', but it is not one (no known format)"),
        ("image", None, "as 'image', but got null"),
    ],
    "mme_realworld_lite": [
        ("answer", "F", "one of the letters ABCDE as 'answer', but has \"F\""),
        ("answer", "AB", "one of the letters ABCDE as 'answer', but has \"AB\""),
        ("multi-choice options", None, "a list of texts as 'multi-choice options', but has null"),
        ("bytes", "%%%", "Expected an image as base64 text in row"),
        ("bytes", None, "Expected an image as base64 text in row"),
        ("bytes", "R0lGODlh", "Expected a readable image in row"),
    ],
    "ok_vqa": [
        ("answers", [], "a list of texts as 'answers', but has []"),
        ("question", " ", f"{TEXT} 'question', but has \" \""),
    ],
    "screenspot": [
        ("bbox", [0.1, 0.2, 0.3], "a list of 4 numbers as 'bbox', but has [0.1, 0.2, 0.3]"),
        ("bbox", None, "a list of 4 numbers as 'bbox', but has null"),
        ("bbox", [0.1, 0.2, float("nan"), 0.4], "left, top, right and bottom of a box as 'bbox'"),
        ("bbox", [0.3, 0.2, 0.1, 0.4], "left, top, right and bottom of a box as 'bbox'"),
        ("bbox", [0.1, 0.4, 0.3, 0.2], "left, top, right and bottom of a box as 'bbox'"),
        ("instruction", "", f"{TEXT} 'instruction'"),
    ],
}


@pytest.mark.parametrize("name", BENCHMARKS)
def test_damaged_rows_stop_the_run_or_are_skipped(name: str, checkpoint: Path, tmp_path: Path) -> None:
    rows, cells = BENCHMARKS[name].rows(20), DAMAGED[name]
    drawn = {0, 2, 3, 7, 8, 16}  # the pool of 20 rows
    queries = [row for row in range(20) if row not in drawn]
    for row, (column, value, _) in zip(queries, cells, strict=False):
        rows[row][column] = value
    copy = BENCHMARKS[name].write(tmp_path / "copy", rows)
    options = ["shots=2", "method=none", f"model.path={checkpoint}", "model.visual_tokens=checkpoint"]
    with pytest.raises(UserError) as caught:
        run_of(name, copy, tmp_path / "run", *options)
    record = run_of(name, copy, tmp_path / "run", *options, "on_error=skip")
    assert str(caught.value).startswith(record.skipped[f"{DATASETS[name].split}/{queries[0]}"])
    assert str(caught.value).endswith("(With on_error=skip such queries are left out, and counted.)")
    assert list(record.skipped) == [f"{DATASETS[name].split}/{row}" for row in queries[: len(cells)]]
    for row, sentence, (_, _, message) in zip(queries, record.skipped.values(), cells, strict=False):
        assert message in sentence
        assert f"row {row} of" in sentence.lower()
        assert "\n" not in sentence
    assert record.metric.n == 14 - len(cells)
    assert record.notes == [f"{len(cells)} of 14 queries could not be asked and count nowhere (see skipped)"]


@pytest.mark.parametrize("skip", [[], ["on_error=skip"]])
def test_a_damaged_demonstration_is_never_passed_over(skip: list[str], tmp_path: Path) -> None:
    copy = written("ok_vqa", tmp_path, set_cell(4, "answers", None))
    with pytest.raises(UserError, match=r"^Row 4 of .* should have a list of texts as 'answers', but has null\.$"):
        run_of("ok_vqa", copy, tmp_path / "run", *skip)
    assert not (tmp_path / "run").exists()


def test_placeholders_of_images_are_no_text(tmp_path: Path) -> None:
    copy = written("ok_vqa", tmp_path, set_cell(1, "question", "What is this<image>?"))
    dataset = DATASETS["ok_vqa"](path=copy, rows=None, pool_size=6)
    questions = {sample.id: sample.question for sample in [*dataset.pool(), *dataset.samples()]}
    assert questions["val2014/1"].startswith("What is this?\n")


def test_a_row_without_a_category_is_asked_all_the_same(tmp_path: Path) -> None:
    copy = written("screenspot", tmp_path, set_cell(3, "data_type", None))
    dataset = ScreenSpot(path=copy, rows=None, pool_size=6)
    assert dataset.samples()[1].parts == ("desktop/unknown",)


def test_the_first_of_the_most_frequent_answers_demonstrates(tmp_path: Path) -> None:
    copy = written("ok_vqa", tmp_path, set_cell(5, "answers", ["b", "c", "A", "a", "c", "b", "A", "d", "e", "f"]))
    dataset = OKVQA(path=copy, rows=None, pool_size=6)
    assert dataset.draw(1, 0)[0].answer == "b"


def test_base64_text_may_be_broken_into_lines(tmp_path: Path) -> None:
    def broken(rows: Rows) -> None:
        text = rows[2]["bytes"]
        rows[2]["bytes"] = "\n".join(text[start : start + 76] for start in range(0, len(text), 76))

    dataset = MMERealWorldLite(path=written("mme_realworld_lite", tmp_path, broken), rows=None, pool_size=6)
    assert load_image(dataset.samples()[0].visual).size == (24, 16)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", BENCHMARKS)
def test_missing_columns_are_named(name: str, tmp_path: Path) -> None:
    column = DATASETS[name].columns[0]

    def without(rows: Rows) -> None:
        for row in rows:
            del row[column]

    with pytest.raises(UserError, match=f"there is no '{column}'; it has ") as caught:
        run_of(name, written(name, tmp_path, without), tmp_path / "run")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["dataset.rows=5046"], "Expected 5046 rows in split val2014 of ok_vqa, but found 10 in "),
        (["dataset.pool_size=10"], "Expected more than 10 rows in .*, but found 10; use more rows or a smaller"),
        (["dataset.pool_size=-1"], "Expected dataset.pool_size to be a whole number from 0 up, but got -1"),
        (["shots=7"], "Dataset ok_vqa has 6 demonstrations, but shots=7"),
        (["dataset.path=/nowhere"], "Expected dataset.path to be a file or a folder, but /nowhere does not exist"),
        (
            ["scoring=strikt"],
            "Expected scoring to be one of reference, strict, but got 'strikt'. Did you mean 'strict'",
        ),
        (
            ["+dataset.prompt.sufix=x"],
            "Expected dataset.prompt to be texts called suffix, but got 'sufix'. Did you mean 'suffix'",
        ),
        (["dataset.prompt.suffix=7"], "Expected dataset.prompt.suffix to be a text, but got 7"),
        (["demonstrations=best"], "demonstrations to be one of balanced, first, reference or null, but got 'best'"),
    ],
)
def test_options_that_cannot_be_used(options: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message) as caught:
        run_of("ok_vqa", written("ok_vqa", tmp_path), tmp_path / "run", *options)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_whole_columns_of_another_type_are_every_rows_problem(checkpoint: Path, tmp_path: Path) -> None:
    rows = [{"question": n, "answers": ["a"], "question_type": "", "answer_type": "", "image": "x"} for n in range(9)]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    dataset = OKVQA(path=tmp_path / "rows.json", rows=None, pool_size=2)
    assert [sample.problem for sample in dataset.samples()] == [
        f"Row {n} of {tmp_path / 'rows.json'} should have a text that is not empty as 'question', but has {n}."
        for n in range(2, 9)
    ]
