"""Copies of a benchmark in every form that people have them in, and silence while they are read."""

import base64
import json
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import huggingface_hub
import pytest

from emloc import UserError
from emloc.prompt import load_image
from experiments.datasets.ok_vqa import OKVQA
from experiments.datasets.source import Table, load_table, open_base64
from tests.support.published import BENCHMARKS, picture

BENCHMARK = BENCHMARKS["ok_vqa"]
COLUMNS = (*OKVQA.columns, *OKVQA.visual_columns)


def read(path: Path | str | None) -> Table:
    return load_table(OKVQA.hub_id, OKVQA.split, path)


def assert_whole(table: Table, count: int = 4) -> None:
    """The rows are there in order, and each has its own image."""
    table.check(COLUMNS)
    assert [row.text("question") for row in table.rows(["question"])] == [
        f"What is thing {number} for?" for number in range(count)
    ]
    images = [load_image(table.image(number, "image")) for number in range(count)]
    assert len({image.tobytes() for image in images}) == count
    assert {(image.mode, image.size) for image in images} == {("RGB", (24, 16))}


def downloaded(folder: Path) -> Path:
    """As `hf download` leaves it: two files of the split, one of another, and what the client keeps for itself."""
    rows = BENCHMARK.rows(6)
    for number, part in enumerate((rows[:2], rows[2:4])):
        BENCHMARK.write(folder, part, name=f"val2014-0000{number}-of-00002.parquet")
    BENCHMARK.write(folder, rows[4:], name="testdev-00000-of-00001.parquet")
    BENCHMARK.write(folder / ".cache" / "val2014", rows[4:])
    (folder / "README.md").write_text("a card")
    return folder


def converted(folder: Path) -> Path:
    """As the Hub's converted branch has it: a folder for every split."""
    for split, rows in (("val2014", BENCHMARK.rows(4)), ("test", BENCHMARK.rows(6)[4:])):
        BENCHMARK.write(folder / split, rows, name="0000.parquet")
    return folder


def one_file(folder: Path) -> Path:
    return BENCHMARK.write(folder, BENCHMARK.rows(4), name="my rows.parquet") / "data" / "my rows.parquet"


def other_names(folder: Path) -> Path:
    return BENCHMARK.write(folder, BENCHMARK.rows(4), name="rows.parquet")


def saved(folder: Path) -> Path:
    BENCHMARK.table(BENCHMARK.rows(4)).save_to_disk(str(folder / "saved"))
    return folder / "saved"


def saved_splits(folder: Path) -> Path:
    splits = {"val2014": BENCHMARK.table(BENCHMARK.rows(4)), "test": BENCHMARK.table(BENCHMARK.rows(6)[4:])}
    datasets.DatasetDict(splits).save_to_disk(str(folder / "saved"))
    return folder / "saved"


def with_files(folder: Path, count: int = 4) -> list[dict[str, Any]]:
    """Rows whose images are files beside them."""
    rows = BENCHMARK.rows(count)
    (folder / "images").mkdir()
    for number, row in enumerate(rows):
        row["image"] = f"images/ü {number}.png"
        (folder / row["image"]).write_bytes(picture(number))
    return rows


def json_file(folder: Path) -> Path:
    (folder / "rows.json").write_text(json.dumps(with_files(folder), ensure_ascii=False), encoding="utf-8")
    return folder / "rows.json"


def json_lines(folder: Path) -> Path:
    text = "".join(json.dumps(row) + "\n" for row in with_files(folder))
    (folder / "val2014.jsonl").write_text(text)
    return folder


FORMS = [downloaded, converted, one_file, other_names, saved, saved_splits, json_file, json_lines]


@pytest.mark.parametrize("write", FORMS)
def test_forms_of_a_copy(write: Callable[[Path], Path], tmp_path: Path) -> None:
    assert_whole(read(write(tmp_path)))


@pytest.mark.parametrize("name", ["my data", "Daten für 猫", "[2024] a*b? {x,y}", "#1, 100% @home"])
def test_places_of_any_name(name: str, tmp_path: Path) -> None:
    assert_whole(read(downloaded(tmp_path / name)))
    assert_whole(read(str(tmp_path / name)))


def test_home_and_relative_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    downloaded(tmp_path / "data here")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert_whole(read("~/data here"))
    monkeypatch.chdir(tmp_path)
    assert_whole(read("data here"))


def test_images_elsewhere_on_the_disk(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(picture(0))
    rows = [{**BENCHMARK.row(0), "image": str(tmp_path / "a.png")}, {**BENCHMARK.row(1), "image": "images/b.png"}]
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "rows.json").write_text(json.dumps(rows))
    table = read(tmp_path / "deep" / "rows.json")
    assert load_image(table.image(0, "image")).size == (24, 16)
    with pytest.raises(UserError, match=r"deep/images/b\.png is not one"):
        load_image(table.image(1, "image"))


def test_a_copy_that_changes_is_read_anew(tmp_path: Path) -> None:
    copy = downloaded(tmp_path)
    assert len(read(copy)) == 4
    BENCHMARK.write(copy, BENCHMARK.rows(7), name="val2014-00000-of-00002.parquet")
    assert len(read(copy)) == 9


def empty(folder: Path) -> Path:
    (folder / "notes.txt").write_text("nothing here")
    return folder


def text_file(folder: Path) -> Path:
    (folder / "rows.txt").write_text("question\nwhy?\n")
    return folder / "rows.txt"


def broken(folder: Path) -> Path:
    (folder / "val2014.parquet").write_bytes(b"PAR1 and no more")
    return folder


def broken_json(folder: Path) -> Path:
    (folder / "val2014.json").write_text('[{"question": "why?"')
    return folder


def other_splits(folder: Path) -> Path:
    datasets.DatasetDict({"test": BENCHMARK.table(BENCHMARK.rows(2))}).save_to_disk(str(folder / "saved"))
    return folder / "saved"


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda folder: folder / "nowhere", "nowhere does not exist"),
        (
            empty,
            "Expected parquet, JSON, JSON-lines, CSV or TSV files in dataset.path, but .* has none; name the folder",
        ),
        (text_file, r"Expected dataset.path to be a parquet, JSON, JSON-lines, CSV or TSV file, but got .*rows\.txt"),
        (broken, "cannot be loaded .*Parquet.*hf download lmms-lab/OK-VQA --repo-type dataset"),
        (broken_json, "cannot be loaded .*hf download lmms-lab/OK-VQA --repo-type dataset"),
        (other_splits, "Expected the split val2014 in .*, but it has test"),
    ],
)
def test_copies_that_cannot_be_read(
    write: Callable[[Path], Path], message: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path)
    capfd.readouterr()
    with pytest.raises(UserError, match=message) as caught:
        read(path)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_without_a_network_one_sentence_says_what_to_do(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match=r"hf download lmms-lab/OK-VQA .*dataset\.path=DIR") as caught:
        read(None)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_the_hubs_client_is_silent_while_data_is_read_and_as_before_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def noisy(*_: Any, **__: Any) -> None:
        logging.getLogger("huggingface_hub.utils._http").warning("Retrying in 1s [Retry 1/5].")
        logging.getLogger("datasets.load").warning("Using the latest cached version")
        assert not datasets.is_progress_bar_enabled()
        raise ConnectionError("no way there")

    levels = huggingface_hub.logging.get_verbosity(), datasets.logging.get_verbosity()
    monkeypatch.setattr(datasets, "load_dataset", noisy)
    for switch in (datasets.enable_progress_bars, datasets.disable_progress_bars):
        switch()
        bars = datasets.is_progress_bar_enabled()
        with pytest.raises(UserError, match="no way there"):
            read(None)
        assert datasets.is_progress_bar_enabled() == bars
    assert {record.name for record in caplog.records} <= {"experiments.datasets.source"}
    assert (huggingface_hub.logging.get_verbosity(), datasets.logging.get_verbosity()) == levels


@pytest.mark.parametrize("cell", [None, 7, "", "not base64!", "QUJD"])
def test_base64_that_is_no_image(cell: Any) -> None:
    with pytest.raises(UserError, match="in row 3 of x") as caught:
        open_base64(cell, "row 3 of x")
    assert "\n" not in str(caught.value)
    assert "0x" not in str(caught.value)


def test_base64_that_is_an_image() -> None:
    assert open_base64(base64.b64encode(picture(0)).decode() + "\n", "row 3").size == (24, 16)


def test_copies_for_reading_go_to_the_tests_own_cache(tmp_path: Path) -> None:
    table = read(downloaded(tmp_path))
    caches = {Path(file["filename"]) for file in table.data.cache_files}
    assert caches
    assert all(cache.is_relative_to(os.environ["HF_HOME"]) for cache in caches)
