"""The notebooks, run from top to bottom in a real kernel: that nothing fails, and that they show what they say."""

import json
import os
import re
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
import pytest
from nbclient import NotebookClient

from analysis.bundle import main
from analysis.claims import claims
from analysis.pages.tables import comparison, markdown
from analysis.runs.load import load
from analysis.runs.seeds import settings
from tests.support.runs import ROOT
from tests.support.sweep import edit

pytest_plugins = ["tests.support.sweep_fixtures"]
NOTEBOOKS = ROOT / "analysis" / "notebooks"
RECORDS = NOTEBOOKS / "records"
NAMES = ("quickstart", "paper_figures", "new_method", "emloc_plus")
SWEEPS = ("fig1_shots", "fig3_delta", "fig4_layers", "table_main")
SHOWN = (
    "table_main/pareto", "fig1_shots/shots", "fig1_shots/pareto", "fig3_delta/delta", "fig4_layers/layer_budgets",
    "table_main/token_kinds",
)  # fmt: skip
TOTAL = 850_000  # bytes of all bundled records
IMPORTANCES = ("answers", "recency")
ALLOCATIONS = ("layer_search", "uniform")


def executed(name: str, folder: Path, check: str, *, cwd: Path | None = None) -> Any:
    """Run a copy of the notebook, with a cell behind it that prints `check` as JSON; returns what was printed."""
    notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    notebook.cells.append(nbformat.v4.new_code_cell(f"import json\nprint(json.dumps({check}))"))
    variables = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    client = NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(cwd or folder)}})
    client.execute(env=variables)
    nbformat.write(notebook, folder / f"{name}.ipynb")
    return json.loads(notebook.cells[-1].outputs[0].text)


def pictures(folder: Path, name: str) -> int:
    """How many pictures a notebook that was run holds."""
    outputs = [
        one for cell in json.loads((folder / f"{name}.ipynb").read_text())["cells"] for one in cell.get("outputs", ())
    ]
    return sum("image/png" in one.get("data", {}) for one in outputs)


@pytest.mark.parametrize("name", NAMES)
def test_notebooks_are_stored_without_outputs(name: str) -> None:
    stored = json.loads((NOTEBOOKS / f"{name}.ipynb").read_text())
    code = [cell for cell in stored["cells"] if cell["cell_type"] == "code"]
    assert code
    assert not [cell for cell in code if cell["outputs"] or cell["execution_count"]]


def test_quickstart(tmp_path: Path) -> None:
    found = executed(
        "quickstart", tmp_path, "[zero_shot, none, emloc, same, memory.tokens_seen, memory.mean_length, len(kept)]"
    )
    zero_shot, none, emloc, same, seen, length, layers = found
    assert zero_shot < 20 < 75 < none
    assert emloc > none - 5
    assert same is True
    assert (seen, layers) == (1661, 8)
    assert length < seen / 9
    assert pictures(tmp_path, "quickstart") == 2


def test_new_method(tmp_path: Path) -> None:
    check = "{'lines': len(SOURCE.splitlines()), 'rows': report.settings.to_dict('records'), 'home': str(HOME)}"
    found = executed("new_method", tmp_path, check, cwd=NOTEBOOKS)
    shutil.rmtree(found["home"])
    assert found["lines"] <= 40
    rows = {row["label"]: row for row in found["rows"]}
    chains = [f"emloc importance={one} allocation={other}" for one in IMPORTANCES for other in ALLOCATIONS]
    assert sorted(rows) == sorted(chains)
    (answers, recency), (answers_uniform, recency_uniform) = (
        [rows[f"emloc importance={one} allocation={other}"] for one in IMPORTANCES] for other in ALLOCATIONS
    )
    assert answers_uniform["tokens_kept"] == recency_uniform["tokens_kept"]
    assert answers_uniform["value"] > recency_uniform["value"] + 0.2
    assert answers_uniform["js_max"] < recency_uniform["js_max"]
    assert max(answers["js_max"], recency["js_max"]) <= 0.005
    assert recency["tokens_kept"] > 2 * answers["tokens_kept"]  # the price of choosing badly within the limit
    assert pictures(tmp_path, "new_method") == 1


def test_emloc_plus(tmp_path: Path) -> None:
    trials, kept = executed("emloc_plus", tmp_path, "[[trial.js for trial in decision.candidates], kept]")
    assert min(trials) < 0.005 < max(trials), "the search passes the cliff from one side to the other"
    assert len(kept) == 8
    assert max(map(max, kept)) >= 3 * min(map(min, kept)), "tokens go where they are needed"
    assert pictures(tmp_path, "emloc_plus") == 3


def test_paper_figures(tmp_path: Path) -> None:
    drawn = executed("paper_figures", tmp_path, "drawn", cwd=ROOT)
    expected = [f"{name}-{dataset}" for name in SHOWN for dataset in ("digits", "glyphs100")]
    assert sorted(drawn) == sorted(expected)
    assert pictures(tmp_path, "paper_figures") == len(drawn)
    text = (tmp_path / "paper_figures.ipynb").read_text()
    assert "(a) the score drops by less than 1 at several times less context" in text
    assert "tokens kept of full" in text


def test_page_of_figures_names_what_there_is() -> None:
    page = (ROOT / "docs" / "FIGURES.md").read_text()
    experiments = set(re.findall(r"\+experiment=(\w+)", page))
    assert experiments <= {path.stem for path in (ROOT / "conf" / "experiment").glob("*.yaml")}
    (names,) = re.findall(r"for NAME in (.+); do\n.*analysis.report", page)
    assert set(names.split()) == experiments
    for module in set(re.findall(r"python -m (analysis\.\w+)", page)):
        assert find_spec(module), module
    links = re.findall(r"\]\(([^)]+)\)", page)
    assert links
    assert [link for link in links if not (ROOT / "docs" / link).exists()] == []


def test_notebooks_call_doors_only() -> None:
    doors = {f"analysis.{path.stem}" for path in (ROOT / "analysis").glob("*.py")} | {"analysis"}
    for name in NAMES:
        text = (NOTEBOOKS / f"{name}.ipynb").read_text()
        imported = set(re.findall(r"\b(?:from|import) (analysis[\w.]*)", text))
        assert imported <= doors, name


def test_bundled_records_are_whole_and_small() -> None:
    files = sorted(path for path in RECORDS.rglob("*") if path.is_file())
    assert [path.name for path in files] == [f"{name}.jsonl" for name in SWEEPS]
    assert sum(path.stat().st_size for path in files) < TOTAL
    for path in files:
        loaded = load([path])
        assert loaded.problems == []
        assert set(loaded.runs["seed"]) == {0, 1, 2}
        assert set(loaded.runs["dataset"]) == {"digits", "glyphs100"}
        assert set(loaded.runs["folder"]) == set(loaded.runs["run_id"])


def test_bundle_gives_the_same_as_the_runs(sweep: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = {"name": "CIDEr", "value": 0.5, "unit": ""}
    edit(sweep / "0-0", lambda record: record.update(other_metrics=[{**record["metric"], **other}]))
    path = tmp_path / "new" / "small.jsonl"
    assert main([str(sweep), "--out", str(path)]) == 0
    assert capsys.readouterr().out == f"{path}\n"
    whole, small = load([sweep]), load([path])
    assert small.problems == []
    places = ["path", "file"]
    for one, two in ((whole.runs, small.runs), (whole.others, small.others)):
        assert not one.empty
        pd.testing.assert_frame_equal(one.drop(columns=places), two.drop(columns=places))
    assert set(whole.layers["candidates"]) > {""} == set(small.layers["candidates"])
    columns = whole.layers.columns.drop("candidates")
    pd.testing.assert_frame_equal(whole.layers[columns], small.layers[columns], rtol=1e-5)  # six digits are kept
    assert claims(small) == claims(whole)
    assert markdown(comparison(settings(small.runs))) == markdown(comparison(settings(whole.runs)))


def test_bundle_leaves_out_what_nothing_shows(sweep: Path, tmp_path: Path) -> None:
    edit(sweep / "0-0", lambda record: record.update(other_metrics=[record["metric"]]))
    assert main([str(sweep / "0-0"), "--out", str(tmp_path / "small.jsonl")]) == 0
    (line,) = (tmp_path / "small.jsonl").read_text().splitlines()
    record = json.loads(line)["record"]
    assert (record["metric"]["parts"], record["demonstrations"]["ids"]) == ({}, [])
    assert record["other_metrics"][0]["parts"] == {}
    assert len(line) < (sweep / "0-0" / "record.json").stat().st_size + (sweep / "0-0" / "layers.csv").stat().st_size


def test_bundles_can_be_bundled_again(sweep: Path, tmp_path: Path) -> None:
    one, two, both = (tmp_path / f"{name}.jsonl" for name in ("one", "two", "both"))
    main([str(sweep / "0-0"), "--out", str(one)])
    main([str(sweep / "1-0"), str(sweep / "3-0"), "--out", str(two)])
    assert main([str(one), str(two), "--out", str(both)]) == 0
    assert both.read_text() == one.read_text() + two.read_text()


def test_bundle_of_nothing(tmp_path: Path, sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "nowhere"), "--out", str(tmp_path / "out.jsonl")]) == 1
    assert capsys.readouterr().err.startswith("Expected finished runs in ")
    assert main([str(sweep), "--out", str(tmp_path / "folder")]) == 1
    assert capsys.readouterr().err == f"Expected --out FILE.jsonl, but got {tmp_path / 'folder'}.\n"
    (tmp_path / "taken.jsonl").mkdir()
    assert main([str(sweep), "--out", str(tmp_path / "taken.jsonl")]) == 1
    assert "choose another file with --out FILE.jsonl" in capsys.readouterr().err
    shutil.rmtree(sweep / "0-0" / ".hydra", ignore_errors=True)
    (sweep / "0-0" / "record.json").unlink()
    assert main([str(sweep), "--out", str(tmp_path / "out.jsonl")]) == 0
    assert "Note: " in capsys.readouterr().err
