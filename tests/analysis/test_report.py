"""The report on real runs: one page that needs no other file, and what the command prints."""

import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest

from analysis.bundle import main as bundle
from analysis.report import main, read
from tests.support.sweep import SEEDS, edit

pytest_plugins = ["tests.support.sweep_fixtures"]
VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """Links, image sources and text of a page; fails on tags that do not match."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.sources: list[str] = []
        self.text = ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.links += [found["href"] or ""] if "href" in found else []
        self.sources += [found["src"] or ""] if "src" in found else []
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def report(finished_sweep: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a report of the whole sweep."""
    out = tmp_path_factory.mktemp("report") / "new" / "out"
    assert main([str(finished_sweep), "--out", str(out)]) == 0
    return out


def test_report_writes_tables_figures_and_the_page(report: Path) -> None:
    expected = {f"{name}.{suffix}" for name in ("comparison", "costs") for suffix in ("md", "tex", "csv")}
    for name in ("shots", "delta", "options", "pareto", "layer_budgets", "token_kinds"):
        expected |= {f"{name}.pdf", f"{name}.png"}
    assert {path.name for path in report.iterdir()} == expected | {"settings.csv", "runs.csv", "report.html"}
    assert all(path.stat().st_size for path in report.iterdir())


def test_page_stands_alone_and_links_to_every_run(report: Path, finished_sweep: Path) -> None:
    text = (report / "report.html").read_text()
    page = Page(text)
    assert len(page.sources) == 6
    assert all(source.startswith("data:image/png;base64,") for source in page.sources)
    assert not re.search(r"https?://|@import|url\(|<script|<link", text)
    assert "prefers-color-scheme: dark" in text
    assert 'name="viewport"' in text
    targets = [(report / unquote(link)).resolve() for link in page.links]
    assert all(target.exists() for target in targets)
    assert {path.resolve() for path in finished_sweep.rglob("record.json")} <= set(targets)


def test_same_records_give_the_same_bytes(report: Path, finished_sweep: Path) -> None:
    again = report.with_name("again")  # beside it, so that the links are the same
    assert main([str(finished_sweep), "--out", str(again)]) == 0
    written = [{path.name: path.read_bytes() for path in folder.iterdir()} for folder in (report, again)]
    assert written[0] == written[1]


def test_page_tells_problems_options_and_versions(sweep: Path) -> None:
    shutil.rmtree(sweep / "1-1")
    (sweep / "0-0" / "record.json").write_text("{")
    edit(sweep / "2-0", lambda record: record.update(notes=["<b>odd</b> & strange"]))
    main([str(sweep)])
    page = Page((sweep / "report.html").read_text())
    top = page.text.index("Scores: ")
    for words in ("Seed 1 is missing", "cannot be read", "<b>odd</b> & strange"):
        assert 0 < page.text.index(words) < top
    for words in (
        "method.allocation.ratios",
        "[0.1,0.2,0.5]",
        "method.importance",
        "answers; null; window",
        "transformers",
        "float32",
        '"chunk_size": 4',
    ):
        assert words in page.text


def test_other_metrics_are_a_table_of_their_own(sweep: Path) -> None:
    other = {"name": "ROUGE-L", "value": 0.321, "unit": "%"}
    edit(sweep / "1-0", lambda record: record.update(other_metrics=[{**record["metric"], **other}]))
    main([str(sweep)])
    for suffix in ("md", "tex", "csv"):
        assert "32.1" in (sweep / f"other_metrics.{suffix}").read_text()
    page = Page((sweep / "report.html").read_text())
    assert "Other metrics: digits, random, ROUGE-L (%), 20 queries, 10 shots" in page.text


def test_report_prints_its_table_and_leaves_the_files_of_runs_alone(
    sweep: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = sweep / "0-0"
    edit(folder, lambda record: record.update(notes=["odd"]))
    before = {path: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    assert main([str(folder)]) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith("| dataset | method | shots |")
    assert printed.out.splitlines()[-1] == str(folder / "report.html")
    assert "Note: Noted by 1 of 1 run: odd: emloc" in printed.err
    assert {path: path.read_bytes() for path in before} == before


def test_report_of_a_bundle_links_to_it(finished_sweep: Path, tmp_path: Path) -> None:
    path = tmp_path / "sweep.jsonl"
    assert bundle([str(finished_sweep), "--out", str(path)]) == 0
    assert main([str(path)]) == 0
    page = Page((tmp_path / "report.html").read_text())
    assert "sweep.jsonl" in page.links
    assert all((tmp_path / unquote(link)).exists() for link in page.links)


def test_report_in_a_notebook(finished_sweep: Path, tmp_path: Path) -> None:
    report = read([finished_sweep])
    assert report is not None
    assert report.tables["comparison"]._repr_markdown_().startswith("| method | delta |")
    assert {drawing.name for drawing in report.drawings()} >= {"pareto", "shots"}
    assert read([tmp_path]) is None


def test_report_without_any_context(finished_sweep: Path, tmp_path: Path) -> None:
    assert main([*(str(finished_sweep / f"3-{seed}") for seed in SEEDS), "--out", str(tmp_path)]) == 0
    assert "There are none, because no run has a context." in Page((tmp_path / "report.html").read_text()).text


def test_nothing_finished(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path)]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == (
        f"Expected finished runs in {tmp_path}, but found none: {tmp_path} holds no runs: "
        "there is no record.json and no bundle (.jsonl) in it or below it.\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_place_that_cannot_be_written(finished_sweep: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert main([str(finished_sweep), "--out", str(tmp_path / "file")]) == 1
    assert "choose another folder with --out FOLDER" in capsys.readouterr().err
