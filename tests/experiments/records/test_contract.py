"""The contract as others rely on it: the standard library alone, and bundles that give back what was put in."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.records.bundle import BundledRun, bundles, is_bundle, read_bundle, write_bundle
from tests.support.runs import ROOT

PACKAGE = ROOT / "experiments" / "records"
RUN = BundledRun("a-run", {"schema": 3, "run_id": "a-run"}, [["chunk", "js"], [0, None]])


def test_the_contract_imports_the_standard_library_only() -> None:
    modules = ", ".join(f"experiments.records.{path.stem}" for path in sorted(PACKAGE.glob("*.py")))
    code = f"import sys; before = set(sys.modules); import {modules}; print(*(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0] for name in done.stdout.split()}
    assert "experiments" in loaded
    assert loaded - {"experiments"} <= set(sys.stdlib_module_names)


def test_a_bundle_gives_back_what_was_put_in(tmp_path: Path) -> None:
    other = BundledRun("b", {"schema": 3}, None)
    write_bundle(tmp_path / "runs.jsonl", [RUN, other])
    assert list(read_bundle(tmp_path / "runs.jsonl")) == [(1, RUN), (2, other)]
    assert len((tmp_path / "runs.jsonl").read_text().splitlines()) == 2


@pytest.mark.parametrize("line", ["{", "[1]", "{}", '{"record": 1}', '{"id": "a", "prediction": "b"}'])
def test_lines_that_are_no_runs_are_counted(tmp_path: Path, line: str) -> None:
    (tmp_path / "runs.jsonl").write_text(f"\n{line}\n{RUN.line()}\n")
    (bad, reason), good = read_bundle(tmp_path / "runs.jsonl")
    assert (bad, good) == (2, (3, RUN))
    assert isinstance(reason, ValueError)


def test_predictions_are_no_bundle(tmp_path: Path) -> None:
    for name in ("predictions.jsonl", "b.jsonl", "a.jsonl", "record.json"):
        (tmp_path / name).write_text(json.dumps({}))
    assert bundles(tmp_path) == [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]
    assert bundles(tmp_path / "b.jsonl") == [tmp_path / "b.jsonl"]
    assert bundles(tmp_path / "record.json") == []
    assert not is_bundle(Path("predictions.jsonl"))
