"""logger=wandb: what it wrote is read back, and nothing that goes wrong with it ends a run."""

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra.types import RunMode
from omegaconf import OmegaConf

from emloc import UserError
from experiments.records.files import RECORD
from experiments.records.schema import Record
from experiments.running.loggers import Wandb, metrics, sweep_of
from tests.support.runs import execute

wandb = pytest.importorskip("wandb")
pytest_plugins = ["tests.support.run_fixtures"]

BLOCK, HEADER = 32768, 7  # bytes of a block of wandb's log, and of the header of the file and of every piece in a block
FULL, LAST = 1, 4  # kinds of pieces of a record that end it


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where wandb writes, and no connection to anything."""
    folder = tmp_path / "logs"
    folder.mkdir()
    monkeypatch.setenv("WANDB_DIR", str(folder))
    monkeypatch.setenv("WANDB_MODE", "offline")
    for name in ("WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR", "WANDB_ARTIFACT_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    yield folder
    wandb.teardown()


def stored(path: Path) -> Iterator[Any]:
    """The records of a .wandb file: a log of blocks, in which records longer than what is left are cut in pieces."""
    from wandb.proto.wandb_internal_pb2 import Record as Stored

    data, at, pieces = path.read_bytes(), HEADER, b""
    while at + HEADER <= len(data):
        left = BLOCK - at % BLOCK
        if left < HEADER:
            at += left
            continue
        length, kind = struct.unpack("<HB", data[at + 4 : at + HEADER])
        pieces += data[at + HEADER : at + HEADER + length]
        at += HEADER + length
        if kind in (FULL, LAST):
            yield Stored.FromString(pieces)
            pieces = b""


def read_back(place: Path) -> tuple[Path, list[Any]]:
    """The one log in `place` and its records, once wandb's service process has written them all."""
    wandb.teardown()
    (log,) = place.rglob("*.wandb")
    return log, list(stored(log))


def values(items: Any) -> dict[str, Any]:
    return {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in items}


def test_everything_is_written(options: list[str], place: Path, tmp_path: Path) -> None:
    record = execute(*options, "logger=wandb", "logger.project=here")
    log, records = read_back(place)
    (run,) = [item.run for item in records if item.HasField("run")]
    assert (run.project, run.display_name, run.run_group) == ("here", record.run_id, "")
    config = values(run.config.update)
    assert {name: config[name] for name in record.config} == json.loads(json.dumps(record.config))
    logged = {}
    for item in records:
        logged.update(values(item.history.item))
    for name, value in metrics(record).items():
        assert logged[name] == pytest.approx(value), name
    table = json.loads((log.parent / "files" / logged["layers.path"]).read_text())
    rows = (tmp_path / "run" / "layers.csv").read_text().splitlines()
    assert table["columns"] == rows[0].split(",")
    assert len(table["data"]) == len(rows) - 1
    assert table["data"][0][:4] == [float(cell) for cell in rows[1].split(",")[:4]]
    picture = log.parent / "files" / logged["layers_picture.path"]
    assert picture.read_bytes() == (tmp_path / "run" / "layers.png").read_bytes()
    (artifact,) = [item.artifact for item in records if item.artifact.type == "record"]
    assert [entry.path for entry in artifact.manifest.contents] == [RECORD]
    assert Record.read(Path(artifact.manifest.contents[0].local_path)) == record


def test_sweep_is_the_group() -> None:
    hydra = OmegaConf.create({"sweep": {"dir": "multirun/my_sweep"}, "mode": RunMode.MULTIRUN})
    assert sweep_of(hydra) == "my_sweep"
    hydra.mode = RunMode.RUN
    assert sweep_of(hydra) is None


def test_group_is_written(options: list[str], place: Path, tmp_path: Path) -> None:
    record = execute(*options)
    Wandb().log(record, tmp_path / "run", group="my_sweep")
    (run,) = [item.run for item in read_back(place)[1] if item.HasField("run")]
    assert run.run_group == "my_sweep"


def test_a_place_that_cannot_be_written_does_not_end_the_run(
    options: list[str], place: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (place / "wandb").write_text("a file where wandb wants its folder")
    record = execute(*options, "logger=wandb")
    assert record.metric.n == 12
    assert "Weights & Biases was not told of this run" in caplog.text


def test_a_server_that_cannot_be_reached_does_not_end_the_run(
    options: list[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    execute(*options, "logger=wandb", "logger.mode=online", "logger.timeout=3")
    assert "Weights & Biases was not told of this run" in caplog.text
    assert (tmp_path / "run" / RECORD).is_file()


def test_a_file_that_is_gone_does_not_end_the_run(
    options: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    record = execute(*options)
    (tmp_path / "run" / "layers.csv").unlink()
    Wandb().log(record, tmp_path / "run", group=None)
    assert "FileNotFoundError" in caplog.text


def test_wrong_settings_are_named_before_any_work(
    options: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"logger\.mode to be one of online, offline or null, but got 'sometimes'"):
        execute(*options, "logger=wandb", "logger.mode=sometimes")
    monkeypatch.setattr("experiments.running.loggers.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'emloc\[wandb\]'"):
        execute(*options, "logger=wandb")
    assert not (tmp_path / "run").exists()


def test_the_logger_is_no_part_of_the_result(options: list[str], place: Path, answered: list[str]) -> None:
    first = execute(*options)
    assert execute(*options, "logger=wandb").run_id == first.run_id
    assert len(answered) == 12
    assert not list(place.rglob("*.wandb")), "a finished run is not reported again"
