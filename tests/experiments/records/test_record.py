"""The files of a run folder as the analysis reads them: record.json, layers.csv, layers.png, the printed table."""

import csv
import json
import logging
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from emloc import Method, Trace, load_backbone
from emloc.backbones.base import Backbone
from experiments.metrics.breakdown import Scored, measured
from experiments.records.layers import COLUMNS
from experiments.records.schema import (
    Answers,
    Chosen,
    ContextSize,
    Divergence,
    Literal,
    Mean,
    Metric,
    MetricSpec,
    Record,
    Seconds,
    finished_record,
)
from experiments.records.upgrade import SCHEMA
from experiments.running import progress as progress_module
from experiments.running.assembly import context_size
from experiments.running.layer_rows import write_layers
from experiments.running.picture import draw_layers
from experiments.running.progress import progress
from experiments.running.provenance import demonstrations_id, git_state, peak_memory_bytes, versions
from experiments.running.summary import summary
from tests.matrix import METHODS
from tests.support.checkpoints import make_checkpoint
from tests.support.lively import demonstrations

RECORD = Record(
    schema=SCHEMA,
    status="complete",
    run_id="emloc-digits-tiny-200-0.005-0a1b2c3d",
    config={"shots": 200},
    demonstrations_id="0011",
    demonstrations=Chosen("balanced", ["a", "b"]),
    prompt_fingerprint={"question": Literal(13, "00ff")},
    answers=Answers(True, {"cat": "bodi"}),
    metric=Metric("accuracy", 0.875, 0.0123, 1000, True, {"cat": Mean(0.875, 0.0123, 1000)}),
    other_metrics=[Metric("IoU", 0.5, None, 1, True, {}, "")],
    skipped={"c": "it is no image"},
    context=ContextSize(6600, 1320.5, [1320, 1321], 4.9981, 54_000_000, 10_800_000),
    js=Divergence(0.005, [0.001, 0.0042], None),
    layer_forwards=1234,
    seconds=Seconds(1.0, 20.0, 30.0),
    queries_per_second=33.3,
    peak_memory_bytes=650_000_000,
    device="cpu",
    dtype="float32",
    versions={"python": "3.11"},
    git=None,
    notes=["nothing was pruned"],
)


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return load_backbone(make_checkpoint(tmp_path_factory.mktemp("model"), layers=3), device="cpu")


@pytest.fixture(scope="module", params=METHODS, ids=str)
def compression(request: pytest.FixtureRequest, backbone: Backbone) -> Trace:
    method: Method = request.param
    return method.trace(backbone, demonstrations(6))


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_record_comes_back_as_it_was_written(tmp_path: Path) -> None:
    RECORD.write(tmp_path / "record.json")
    assert Record.read(tmp_path / "record.json") == RECORD


def test_record_has_the_keys_of_the_contract(tmp_path: Path) -> None:
    RECORD.write(tmp_path / "record.json")
    stored = json.loads((tmp_path / "record.json").read_text())
    assert set(stored) >= {
        "schema", "status", "run_id", "config", "demonstrations_id", "metric", "context", "js", "layer_forwards",
        "seconds", "queries_per_second", "peak_memory_bytes", "device", "dtype", "versions", "git", "answers",
        "demonstrations",
        "prompt_fingerprint", "other_metrics", "skipped", "notes",
    }  # fmt: skip
    assert set(stored["metric"]) == {"name", "value", "stderr", "n", "higher_is_better", "parts", "unit"}
    assert set(stored["context"]) == {
        "tokens_full", "tokens_kept_mean", "tokens_kept_per_layer", "compression", "bytes_full", "bytes_kept",
        "per_query",
    }  # fmt: skip
    assert set(stored["js"]) == {"delta", "final_per_chunk", "heldout_mean", "heldout_per_layer"}
    assert set(stored["seconds"]) == {"load", "compress", "query"}


def test_only_a_complete_record_of_this_run_counts(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    assert finished_record(tmp_path, RECORD.run_id) is None
    for record in (replace(RECORD, status="running"), replace(RECORD, schema=0), replace(RECORD, run_id="other")):
        record.write(path)
        assert finished_record(tmp_path, RECORD.run_id) is None
    path.write_text(f'{{"schema": {SCHEMA}, "status": "complete"}}')
    assert finished_record(tmp_path, RECORD.run_id) is None


def test_crash_while_writing_leaves_the_old_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    RECORD.write(tmp_path / "record.json")

    def full(_: int) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="no space"):
        replace(RECORD, notes=[]).write(tmp_path / "record.json")
    assert Record.read(tmp_path / "record.json") == RECORD


def test_layers_csv(compression: Trace, tmp_path: Path) -> None:
    write_layers(tmp_path / "layers.csv", compression)
    found = rows(tmp_path / "layers.csv")
    layers = len(compression.memory.layers)
    assert len(found) == layers * len(compression.chunks)
    for layer, length in enumerate(compression.memory.lengths):
        kept = [float(row["tokens_kept"]) for row in found if int(row["layer"]) == layer]
        assert sum(kept) == pytest.approx(length)
    for row in found:
        parts = sum(float(row[f"{kind}_kept"]) for kind in ("image", "question", "answer"))
        assert parts == pytest.approx(float(row["tokens_kept"]))
        assert float(row["ratio"]) == pytest.approx(float(row["tokens_kept"]) / float(row["tokens_before"]))


def test_layers_csv_holds_every_trial(compression: Trace, tmp_path: Path) -> None:
    write_layers(tmp_path / "layers.csv", compression)
    text = (tmp_path / "layers.csv").read_text()
    assert text.splitlines()[0] == ",".join(COLUMNS)
    for row in rows(tmp_path / "layers.csv"):
        chunk, layer = compression.chunks[int(row["chunk"])], int(row["layer"])
        trials = [pair.split(":") for pair in row["candidates"].split(";") if pair]
        made = [trial for trial in chunk.candidates if trial.layer == layer]
        assert [float(ratio) for ratio, _ in trials] == [trial.ratio for trial in made]
        assert [float(js) for _, js in trials] == pytest.approx([trial.js for trial in made], rel=1e-8)
        assert row["js"] == (str(chunk.layer_js[layer]) if chunk.layer_js else "")


def test_picture_is_small_and_readable(compression: Trace, tmp_path: Path) -> None:
    draw_layers(tmp_path / "layers.png", compression, delta=0.005)
    with Image.open(tmp_path / "layers.png") as picture:
        assert 600 <= picture.width <= 1400
        assert len(set(picture.convert("RGB").tobytes())) > 1
    assert (tmp_path / "layers.png").stat().st_size < 100_000


def test_context_size_is_measured(compression: Trace) -> None:
    size = context_size(compression.memory)
    assert size.bytes_kept == sum(layer.keys.nbytes + layer.values.nbytes for layer in compression.memory.layers)
    if size.compression is not None:
        assert size.compression == size.tokens_full / size.tokens_kept_mean
        assert size.bytes_full / size.bytes_kept == pytest.approx(size.compression)


def test_table_shows_the_figures() -> None:
    table = summary(RECORD)
    for text in (
        "87.5 ± 1.2 %",
        "n = 1,000",
        "6,600 -> 1,320.5",
        "5.00x",
        "0.00420",
        "limit 0.005",
        "nothing was pruned",
    ):
        assert text in table
    starts = {line.index(line.split("  ", 2)[2].strip()) for line in table.splitlines()[1:]}
    assert len(starts) == 1, "the values stand in one column"


def test_table_of_a_run_without_context_and_with_one_query() -> None:
    record = replace(
        RECORD,
        metric=replace(RECORD.metric, stderr=None, n=1),
        context=ContextSize(0, 0.0, [0, 0], None, 0, 0),
        js=Divergence(None, [], None),
        notes=[],
    )
    assert "±" not in summary(record)
    assert "no context" in summary(record)


def test_metrics_have_an_error_in_every_part() -> None:
    answers = [("cat", 1.0), ("cat", 0.0), ("dog", 1.0)]
    found = measured(MetricSpec("accuracy"), [Scored({"accuracy": score}, (label,)) for label, score in answers])
    assert found.parts == {"cat": Mean(0.5, 0.5, 2), "dog": Mean(1.0, None, 1)}
    assert (found.value, found.n) == (pytest.approx(2 / 3), 3)
    assert found.stderr == pytest.approx(1 / 3)


def test_demonstrations_id_depends_on_everything() -> None:
    items = demonstrations(3)
    changed = [
        items[::-1],
        items[:2],
        [replace(items[0], answer="x"), *items[1:]],
        [replace(items[0], question="x"), *items[1:]],
        [replace(items[0], visual=items[1].visual), *items[1:]],
    ]
    ids = {demonstrations_id(some) for some in [items, *changed]}
    assert len(ids) == 1 + len(changed)
    assert demonstrations_id(demonstrations(3)) == demonstrations_id(items)


def test_provenance(monkeypatch: pytest.MonkeyPatch, backbone: Backbone) -> None:
    assert {"python", "torch", "transformers"} <= set(versions())
    assert peak_memory_bytes(backbone.device) > 50e6
    monkeypatch.setenv("PATH", "")
    assert git_state() is None


def test_git_state_outside_a_checkout(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("experiments.running.provenance.__file__", str(tmp_path / "x.py"))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git_state() is None


def test_progress_without_a_terminal_is_ten_lines(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False)
    monkeypatch.setattr(progress_module, "_PAUSE", 0.0)
    with caplog.at_level(logging.INFO), progress("queries", unit="queries") as report:
        for done in range(1, 1001):
            report(done, 1000)
    assert len(caplog.records) == 10
    assert caplog.records[-1].getMessage() == "queries: 1000 of 1000 queries"


def test_progress_on_a_terminal_is_a_bar(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with caplog.at_level(logging.INFO), progress("queries", unit="queries") as report:
        report(3, 4)
        report(4, 4)
    assert "4/4" in capsys.readouterr().err
    assert not caplog.records
