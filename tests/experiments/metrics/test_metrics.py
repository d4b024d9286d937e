"""Scores of single answers, their mean, and the code words that stand for class names."""

import statistics

import pytest

from emloc.errors import UserError, nearest
from experiments.datasets.codewords import AnswerCode
from experiments.metrics import exact_match, normalised_substring
from experiments.metrics.breakdown import Scored, breakdown, measured
from experiments.records.schema import Mean, MetricSpec


@pytest.mark.parametrize(
    ("prediction", "reference", "score"),
    [
        ("It is a Hammer head. shark", "hammerhead shark", 1.0),
        ("smooth newt.", "newt", 1.0),  # the one pair of ImageNet100 names where one is in the other
        ("newt.", "smooth newt", 0.0),
        ("kite bird of prey", "kite (bird of prey)", 0.0),  # parentheses have to match
        ("ring necked snake", "ring-necked snake", 0.0),
        ("Gila Monster", "gila monster.", 1.0),
        ("", "hen", 0.0),
        ("anything", " . ", 0.0),
    ],
)
def test_normalised_substring(prediction: str, reference: str, score: float) -> None:
    assert normalised_substring(prediction, reference) == score


@pytest.mark.parametrize(
    ("prediction", "reference", "score"),
    [
        (" Seven.\n", "seven", 1.0),
        ("seven eight", "seven", 0.0),
        ("cafe\u0301", "caf\u00e9", 1.0),  # the same letter in two Unicode forms
        ("", "seven", 0.0),
    ],
)
def test_exact_match(prediction: str, reference: str, score: float) -> None:
    assert exact_match(prediction, reference) == score


def test_case_counts_where_classes_differ_by_it() -> None:
    assert exact_match("a.", "A", classes=("A", "a")) == 0.0
    assert exact_match("A", "A", classes=("A", "a")) == 1.0
    assert exact_match("a", "A", classes=("A", "B")) == 1.0


def test_mean_and_standard_error() -> None:
    scores = [1.0, 0.0, 1.0, 1.0]
    mean = Mean.of(scores)
    assert (mean.value, mean.n) == (0.75, 4)
    assert mean.stderr == pytest.approx(statistics.stdev(scores) / 2)
    assert Mean.of([1.0]) == Mean(1.0, None, 1)
    with pytest.raises(ValueError, match="no scores"):
        Mean.of([])


def test_breakdown_by_parts() -> None:
    scores = [(1.0, ("short", "Sports")), (0.0, ["short"]), (0.5, ()), (0.5, ("Sports", "Sports", "art"))]
    assert breakdown(scores) == {
        "Sports": Mean(0.75, pytest.approx(0.25), 2),
        "art": Mean(0.5, None, 1),
        "short": Mean(0.5, pytest.approx(0.5), 2),
    }
    assert list(breakdown(scores)) == ["Sports", "art", "short"]
    assert breakdown([]) == {}


def test_a_model_of_free_text_needs_no_code() -> None:
    code = AnswerCode.for_classes(["tench", "hen"], None)
    assert not code.words
    assert not code.closed
    assert (code.encode("tench"), code.decode("tench")) == ("tench", "tench")


def test_code_words_are_distinct_unused_and_reversible() -> None:
    classes, words = ["hen", "great white shark", "wolf spider"], ["hen", "bado", "kuma", "tilo"]
    code = AnswerCode.for_classes(classes, words)
    assert code == AnswerCode.for_classes(classes, words)
    assert set(code.words) == {"great white shark", "wolf spider"}
    assert set(code.words.values()) < {"bado", "kuma", "tilo"}
    assert [code.decode(f" {code.encode(name)}\n") for name in classes[1:]] == classes[1:]
    assert code.encode("hen") == "hen"
    assert code.decode("hen is it") == "hen is it"
    drawn = {tuple(AnswerCode.for_classes(classes, words, seed).words.values()) for seed in range(9)}
    assert len(drawn) > 1


def test_more_classes_than_words() -> None:
    with pytest.raises(UserError, match=r"1 words left .* 2 classes"):
        AnswerCode.for_classes(["hen", "tench", "goose"], ["hen", "bado"])


def test_nearest_name() -> None:
    assert nearest("Digit", ["glyphs100", "digits"]) == " Did you mean 'digits'?"
    assert nearest("snapkw", ["SnapKV", "none"]) == " Did you mean 'SnapKV'?"
    assert nearest("xyz", ["digits"]) == ""


def test_metrics_have_an_error_in_every_part() -> None:
    answers = [("cat", 1.0), ("cat", 0.0), ("dog", 1.0)]
    found = measured(MetricSpec("accuracy"), [Scored({"accuracy": score}, (label,)) for label, score in answers])
    assert found.parts == {"cat": Mean(0.5, 0.5, 2), "dog": Mean(1.0, None, 1)}
    assert (found.value, found.n) == (pytest.approx(2 / 3), 3)
    assert found.stderr == pytest.approx(1 / 3)
