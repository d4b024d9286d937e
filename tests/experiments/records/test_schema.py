"""record.json: what is written comes back, and nothing half-written ever counts."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from experiments.records.schema import Record, finished_record
from experiments.records.upgrade import SCHEMA
from tests.support.records import RECORD


def test_record_comes_back_as_it_was_written(tmp_path: Path) -> None:
    RECORD.write(tmp_path / "record.json")
    assert Record.read(tmp_path / "record.json") == RECORD


def test_record_has_the_keys_of_the_contract(tmp_path: Path) -> None:
    RECORD.write(tmp_path / "record.json")
    stored = json.loads((tmp_path / "record.json").read_text())
    assert set(stored) >= {
        "schema", "status", "run_id", "config", "demonstrations_id", "metric", "context", "js", "layer_forwards",
        "measuring_forwards",
        "seconds", "queries_per_second", "peak_memory_bytes", "device", "dtype", "versions", "git", "answers",
        "demonstrations",
        "prompt_fingerprint", "other_metrics", "skipped", "notes", "baselines",
    }  # fmt: skip
    assert set(stored["metric"]) == {"name", "value", "stderr", "n", "higher_is_better", "parts", "unit"}
    assert set(stored["context"]) == {
        "tokens_full", "tokens_kept_mean", "tokens_kept_per_layer", "compression", "bytes_full", "bytes_kept",
        "per_query", "tokens_kept_per_head",
    }  # fmt: skip
    assert set(stored["js"]) == {
        "delta", "final_per_chunk", "heldout_mean", "heldout_per_layer", "heldout_queries", "agreement",
        "crossfit_per_chunk", "total",
    }  # fmt: skip
    assert set(stored["seconds"]) == {"load", "compress", "query", "measure"}


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
