"""Runs in bundles: read like those in folders, and every line that is none is named."""

import json
from pathlib import Path

import pandas as pd
import pytest

from analysis.runs.load import load
from experiments.records.bundle import BundledRun
from tests.support.runs import ROOT

pytest_plugins = ["tests.support.sweep_fixtures"]


def the(sentences: list[str], *words: str) -> str:
    """The one sentence with all these words."""
    found = [sentence for sentence in sentences if all(word in sentence for word in words)]
    assert len(found) == 1, sentences
    return found[0]


def bundle(path: Path, *lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


@pytest.fixture
def line(finished_sweep: Path) -> str:
    """A run as a line of a bundle, its layers as they are stored."""
    folder = finished_sweep / "1-0"
    rows = [row.split(",") for row in (folder / "layers.csv").read_text().splitlines()]
    assert rows[0][-1] == "candidates"
    cells = [[float(cell) if cell else None for cell in row[:-1]] for row in rows[1:]]
    return BundledRun("1-0", json.loads((folder / "record.json").read_text()), [rows[0][:-1], *cells]).line()


def test_a_bundle_is_read_like_the_folder_of_a_run(line: str, finished_sweep: Path, tmp_path: Path) -> None:
    path = bundle(tmp_path / "below" / "runs.jsonl", line)
    folder = load([finished_sweep / "1-0"])
    for place in (path, tmp_path):
        found = load([place])
        assert found.problems == []
        assert list(found.records) == list(found.runs["path"]) == [f"{path}:1"]
        assert list(found.records.values()) == list(folder.records.values())
        places = ["path", "file"]
        pd.testing.assert_frame_equal(found.runs.drop(columns=places), folder.runs.drop(columns=places))
        pd.testing.assert_frame_equal(found.layers, folder.layers)
    assert list(found.runs["folder"]) == ["1-0"]


def test_damaged_lines_of_a_bundle_are_named(line: str, tmp_path: Path) -> None:
    record = json.loads(line)["record"]
    changes = ({"status": "running"}, {"run_id": "other", "js": {}}, {"run_id": "without layers"})
    changed = [json.dumps({"folder": "a", "record": {**record, **change}}) for change in changes]
    path = bundle(tmp_path / "runs.jsonl", "{", "", line, "[1]", *changed)
    found = load([path])
    assert list(found.runs["path"]) == [f"{path}:3", f"{path}:7"]
    the(found.problems, f"{path}:1 is not a run", "left out")
    the(found.problems, f"{path}:4 is not a run", "left out")
    the(found.problems, f"{path}:5 has the status 'running'")
    the(found.problems, f"{path}:6 is damaged")
    the(found.problems, f"The layers of {path}:7 cannot be read", "the bundle has no layers.csv")
    assert len(found.problems) == 5


def test_a_file_of_another_kind_is_one_problem(line: str, tmp_path: Path) -> None:
    path = bundle(tmp_path / "questions.jsonl", '{"id": 1}', '{"id": 2}')
    assert load([path]).problems == [f"{path} holds no runs: none of its 2 lines is one."]
    path.write_bytes(b"\xff\xfe")
    the(load([path]).problems, f"{path} cannot be read")
    path.write_text("")
    assert load([path]).problems == [f"{path} holds no runs: it is empty."]


def test_a_run_and_its_bundle_are_one_run(line: str, finished_sweep: Path, tmp_path: Path) -> None:
    path = bundle(tmp_path / "runs.jsonl", line)
    the(load([finished_sweep / "1-0", path]).problems, f"{path}:1 holds the same run", "with the same score")


def test_records_of_schema_2_are_read(tmp_path: Path) -> None:
    old = json.loads((ROOT / "tests" / "data" / "records" / "schema-2.jsonl").read_text().splitlines()[0])
    assert old["record"]["schema"] == 2
    found = load([bundle(tmp_path / "old.jsonl", json.dumps(old))])
    (record,) = found.records.values()
    assert record["config"]["method"]["importance"] == {"_target_": "emloc.importance.answers.Answers"}
    assert found.problems == []
