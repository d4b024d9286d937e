"""The paper's claim on the embedded model and real images, small enough for every test run.

The full figures stand in the README; these bounds only have to notice that something broke.
"""

from pathlib import Path

import pytest

from emloc import Memory, load_backbone
from experiments.datasets.digits import Digits
from experiments.records.schema import Record
from tests.support.runs import execute, lines

SHOTS, QUERIES = 60, 200


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Record]:
    folder = tmp_path_factory.mktemp("outputs")
    base = ["device=cpu", f"shots={SHOTS}", f"limit={QUERIES}"]
    emloc = execute(*base, "method=emloc", f"hydra.run.dir={folder / 'emloc'}")
    others = {
        "none": ["method=none"],
        "zero_shot": ["method=zero_shot"],
        "snapkv": ["method=snapkv", f"budget=match:{folder / 'emloc' / 'record.json'}"],
        "pyramidkv": ["method=pyramidkv", f"budget=match:{folder / 'emloc' / 'record.json'}"],
    }
    found = {name: execute(*base, *options, f"hydra.run.dir={folder / name}") for name, options in others.items()}
    return {"emloc": emloc, **found}


def test_the_context_teaches_and_emloc_keeps_what_it_taught(runs: dict[str, Record]) -> None:
    assert runs["zero_shot"].metric.value < 0.2
    assert runs["none"].metric.value > 0.7
    assert runs["emloc"].metric.value > runs["none"].metric.value - 0.03
    assert (runs["emloc"].context.compression or 0) > 3
    assert max(runs["emloc"].js.final_per_chunk) <= 0.005


def test_schedules_lose_at_equal_length(runs: dict[str, Record]) -> None:
    for name in ("snapkv", "pyramidkv"):
        assert runs[name].context.tokens_kept_mean == pytest.approx(runs["emloc"].context.tokens_kept_mean, abs=0.5)
        assert runs[name].metric.value < runs["emloc"].metric.value


def test_what_is_kept_reaches_the_folder_of_the_run(runs: dict[str, Record]) -> None:
    for name, record in runs.items():
        assert record.metric.n == QUERIES
        assert len(record.js.final_per_chunk) == (0 if name == "zero_shot" else 3)


def test_a_saved_memory_answers_like_the_run(tmp_path: Path) -> None:
    """Adapt once, ship the file, answer elsewhere: through files alone."""
    record = execute("device=cpu", "shots=20", "limit=40", "save_memory=true", f"hydra.run.dir={tmp_path / 'run'}")
    dataset, backbone = Digits(), load_backbone("tiny", device="cpu")
    memory = Memory.load(tmp_path / "run" / "memory.safetensors", backbone)
    samples = {sample.id: sample for sample in dataset.samples()}
    for line in lines(tmp_path / "run")[:10]:
        (answer,) = backbone.answer([dataset.query(samples[str(line["id"])])], memory, max_new_tokens=3)
        assert answer == line["answer"]
    assert (tmp_path / "run" / "memory.safetensors").stat().st_size < 2 * record.context.bytes_kept
