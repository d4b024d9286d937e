"""Which settings share the best score, on runs with known outcomes query by query."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.bundle import main as bundle
from analysis.pages.tables import comparison
from analysis.report import read
from analysis.runs.best import differ, sharing
from analysis.runs.load import load
from analysis.runs.scores import Scores
from analysis.runs.seeds import settings
from experiments.records.schema import Mean
from tests.support.sweep import SEEDS, edit

pytest_plugins = ["tests.support.sweep_fixtures"]


class Made:
    """Settings of hand-made runs, and the scores of their queries."""

    def __init__(self) -> None:
        self.settings: dict[int, pd.DataFrame] = {}
        self.known: dict[str, Scores] = {}

    def add(self, by_seed: Mapping[int, Sequence[float]], *, queries: str = "same", known: bool = True) -> pd.DataFrame:
        number, rows = len(self.settings), []
        for seed, scores in by_seed.items():
            mean, path = Mean.of(list(scores)), f"{number}-{seed}"
            rows.append({"path": path, "seed": seed, "metric": "accuracy", "value": mean.value, "stderr": mean.stderr,
                         "n": mean.n, "higher_is_better": True})  # fmt: skip
            self.known[path] = Scores(queries, {"accuracy": np.array(scores)}) if known else Scores()
        self.settings[number] = pd.DataFrame(rows)
        return self.settings[number]

    def scores(self, path: str) -> Scores:
        return self.known[path]

    def differ(self) -> bool:
        return differ(self.settings[0], self.settings[1], self.scores)


def hits(both: int, first: int, second: int, neither: int) -> tuple[list[float], list[float]]:
    """Two runs' scores: how many queries both get right, only the first, only the second, and neither."""
    pairs = [(1.0, 1.0)] * both + [(1.0, 0.0)] * first + [(0.0, 1.0)] * second + [(0.0, 0.0)] * neither
    return [one for one, _ in pairs], [two for _, two in pairs]


@pytest.mark.parametrize(("first", "second"), [(6, 0), (5, 0), (9, 1), (8, 1), (8, 2), (20, 20), (35, 20), (36, 20)])
def test_one_seed_of_hits_is_mcnemars_exact_test(first: int, second: int) -> None:
    made = Made()
    for scores in hits(80, first, second, 14):
        made.add({0: scores})
    exact = 2 * stats.binom.cdf(min(first, second), first + second, 0.5)
    assert made.differ() == (exact < 0.05)


def test_pairing_finds_what_two_samples_do_not() -> None:
    one, two = hits(500, 10, 0, 490)  # 51 and 50 % of 1,000: only every hundredth query differs, always to one side
    made, unpaired = Made(), Made()
    for scores in (one, two):
        made.add({0: scores})
        unpaired.add({0: scores}, known=False)
    assert made.differ()
    assert not unpaired.differ()


def test_other_queries_are_no_pairs() -> None:
    made = Made()
    for scores, queries in zip(hits(500, 10, 0, 490), ("these", "those"), strict=True):
        made.add({0: scores}, queries=queries)
    assert not made.differ()


@pytest.mark.parametrize("shift", [0.0, 0.05])
def test_one_seed_of_graded_scores_is_the_paired_bootstrap(shift: float) -> None:
    rng = np.random.default_rng(0)
    base = rng.uniform(0.2, 0.8, 300)
    made = Made()
    made.add({0: list(base + shift + rng.normal(0, 0.05, 300))})
    made.add({0: list(base + rng.normal(0, 0.05, 300))})
    assert made.differ() == (shift > 0)


def test_many_queries_do_not_replace_seeds() -> None:
    """Demonstrations that suit one method or the other: 3 x 1,000 differences, but only three draws of them."""
    good, bad = hits(500, 200, 0, 300)
    made = Made()
    made.add({0: good, 1: good, 2: bad})
    made.add({0: bad, 1: bad, 2: good})
    pooled = np.concatenate([np.subtract(one, two) for one, two in ((good, bad), (good, bad), (bad, good))])
    assert stats.ttest_1samp(pooled, 0).pvalue < 1e-9  # what taking all differences for independent would say
    assert not made.differ()


def test_equal_seeds_do_not_replace_queries() -> None:
    """The seeds agree to the last query, so they have no spread; that leaves 20 queries, of which one differs."""
    one, two = hits(10, 1, 0, 9)
    made = Made()
    made.add(dict.fromkeys(range(3), one))
    made.add(dict.fromkeys(range(3), two))
    assert not made.differ()
    unknown = Made()  # that is why single scores are asked for: the means alone look certain
    unknown.add(dict.fromkeys(range(3), one), known=False)
    unknown.add(dict.fromkeys(range(3), two), known=False)
    assert unknown.differ()


def test_seeds_that_agree_find_a_difference() -> None:
    rng = np.random.default_rng(0)
    base = rng.random(400)
    made = Made()
    made.add({seed: list((base + rng.normal(0, 0.05, 400) < 0.6).astype(float)) for seed in range(3)})
    made.add({seed: list((base + rng.normal(0, 0.05, 400) < 0.5).astype(float)) for seed in range(3)})
    assert made.differ()


def test_means_alone_are_a_paired_t_test_over_seeds() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        values = rng.uniform(0.4, 0.6, (2, 3))
        one, two = (
            pd.DataFrame({"path": "", "seed": range(3), "metric": "a", "value": of, "stderr": 0.01}) for of in values
        )
        expected = stats.ttest_rel(*values).pvalue < 0.05
        assert differ(one, two, lambda _: Scores()) == expected


def test_level_is_kept_when_there_is_no_difference() -> None:
    """Random demonstrations and queries, 300 times: a difference is found in no more than 5 % (and some noise)."""
    rng, found = np.random.default_rng(0), 0
    for _ in range(300):
        easy, made = rng.normal(0, 1, 60), Made()
        for _ in range(2):
            made.add(
                {seed: list((easy + rng.normal(0, 0.5) + rng.normal(0, 1, 60) > 0).astype(float)) for seed in range(3)}
            )
        found += made.differ()
    assert found <= 24


def test_best_is_shared_where_no_difference_is_found() -> None:
    made = Made()
    best, near = hits(80, 3, 1, 16)
    _, far = hits(60, 23, 0, 17)
    for scores in (best, near, far):
        made.add({0: scores})
    assert sharing(made.settings, made.scores) == [0, 1]
    lower = {number: runs.assign(higher_is_better=False) for number, runs in made.settings.items()}
    assert sharing(lower, made.scores) == [2]
    assert sharing({0: made.settings[0]}, made.scores) == []


def _score(mean: Mean, record: dict[str, Any]) -> None:
    record["metric"].update(value=mean.value, stderr=mean.stderr)


def spoil(sweep: Path, name: str, scores: Sequence[float]) -> None:
    """Give a run these scores, in its record and query by query."""
    for seed in SEEDS:
        path = sweep / f"{name}-{seed}" / "predictions.jsonl"
        frame = pd.read_json(path, lines=True, dtype=False)
        frame = frame.assign(scores=[{"accuracy": score} for score in scores])
        frame.to_json(path, orient="records", lines=True)
        mean = Mean.of(list(scores))
        edit(path.parent, partial(_score, mean))


def test_tables_share_bold_among_runs_on_the_same_queries(sweep: Path) -> None:
    """None loses one query of 20 to emloc, snapkv 15; a run on fewer queries with a higher score is no rival."""
    everything, almost = hits(18, 1, 0, 1)
    for name, scores in (
        ("0", everything),
        ("6", everything),
        ("7", everything),
        ("1", almost),
        ("2", hits(4, 15, 0, 1)[1]),
    ):
        spoil(sweep, name, scores)
    edit(sweep / "3-0", lambda record: record["metric"].update(n=5, value=1.0, stderr=0.0))
    report = read([sweep])
    assert report is not None
    table = comparison(report.settings[report.settings["shots"] == 10])
    assert list(table.headers[2:]) == ["5 queries", "20 queries"]
    bold = {row[0].text: [cell.bold for cell in row[2:]] for row in table.rows}
    assert bold["none"] == [False, True]
    assert bold["snapkv budget=0.2"] == [False, False]
    assert bold["zero_shot"] == [False, False]
    assert "do not differ from it by a paired test at 5 %" in " ".join(table.notes)


def test_a_bundle_shares_the_best_as_its_folders_do(sweep: Path, tmp_path: Path) -> None:
    for name, scores in (("0", hits(18, 1, 0, 1)[0]), ("1", hits(18, 1, 0, 1)[1])):
        spoil(sweep, name, scores)
    spoil(sweep, "4", [0.25 * (number % 5) for number in range(20)])
    path = tmp_path / "bundle.jsonl"
    assert bundle([str(sweep), "--out", str(path)]) == 0
    folders, line = load([sweep]), load([path])
    columns = ["label", "shots", "delta", "value", "best", "queries_low", "queries_high", "low", "high"]
    ours, theirs = (settings(one.runs, one.scores)[columns] for one in (folders, line))
    pd.testing.assert_frame_equal(ours, theirs)
    for one, two in zip(folders.runs["path"], line.runs["path"], strict=True):
        first, second = folders.scores(one), line.scores(two)
        assert first.queries == second.queries != ""
        assert list(first.by_metric["accuracy"]) == list(second.by_metric["accuracy"])


def test_scores_that_do_not_give_the_metric_are_not_used(tmp_path: Path) -> None:
    path = tmp_path / "predictions.jsonl"
    path.write_text('{"id": "b", "scores": {"a": 1.0}}\n{"id": "a", "scores": {"a": 0.0}}\n')
    found = Scores.of_predictions(path)
    scores = found.of("a", 0.5)
    assert scores is not None
    assert list(scores) == [0.0, 1.0]  # in the order of the ids
    assert found.of("a", 0.6) is None
    assert found.of("CIDEr", 0.5) is None
    path.write_text("{")
    assert Scores.of_predictions(path) == Scores()
