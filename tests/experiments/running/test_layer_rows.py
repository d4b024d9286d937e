"""layers.csv: one row per chunk and layer, which add up, with every trial."""

import csv
from pathlib import Path

import pytest

from emloc import Trace
from experiments.records.layers import COLUMNS
from experiments.running.layer_rows import write_layers

pytest_plugins = ["tests.support.trace_fixtures"]


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_layers_csv(trace: Trace, tmp_path: Path) -> None:
    write_layers(tmp_path / "layers.csv", trace)
    found = rows(tmp_path / "layers.csv")
    layers = len(trace.memory.layers)
    assert len(found) == layers * len(trace.chunks)
    for layer, length in enumerate(trace.memory.lengths):
        kept = [float(row["tokens_kept"]) for row in found if int(row["layer"]) == layer]
        assert sum(kept) == pytest.approx(length)
    for row in found:
        parts = sum(float(row[f"{kind}_kept"]) for kind in ("image", "question", "answer"))
        assert parts == pytest.approx(float(row["tokens_kept"]))
        assert float(row["ratio"]) == pytest.approx(float(row["tokens_kept"]) / float(row["tokens_before"]))


def test_layers_csv_holds_every_trial(trace: Trace, tmp_path: Path) -> None:
    write_layers(tmp_path / "layers.csv", trace)
    text = (tmp_path / "layers.csv").read_text()
    assert text.splitlines()[0] == ",".join(COLUMNS)
    for row in rows(tmp_path / "layers.csv"):
        chunk, layer = trace.chunks[int(row["chunk"])], int(row["layer"])
        trials = [pair.split(":") for pair in row["candidates"].split(";") if pair]
        made = [trial for trial in chunk.candidates if trial.layer == layer]
        assert [float(ratio) for ratio, _ in trials] == pytest.approx([trial.ratio for trial in made], rel=1e-5)
        assert [float(js) for _, js in trials] == pytest.approx([trial.js for trial in made], rel=1e-8)
        assert row["js"] == (str(chunk.layer_js[layer]) if chunk.layer_js else "")
