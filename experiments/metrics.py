"""Scores of one answer, and their mean. Pure functions; every score is between 0 and 1, higher is better."""

import statistics
import unicodedata
from collections.abc import Collection, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class MetricSpec:
    """What a dataset reports: the name of its metric, which way is up, and the unit of a hundred times its value."""

    name: str
    higher_is_better: bool = True
    unit: str = "%"  # empty for scores that are no share of anything, such as CIDEr


def normalised_substring(prediction: str, reference: str) -> float:
    """1.0 if the reference occurs in the prediction, both in lower case and without full stops and spaces.

    The rule that the paper's implementation scores ImageNet100 with. "A hammer head shark." is right for "hammerhead
    shark"; so is "smooth newt" for "newt". An empty reference is in no prediction.
    """
    wanted = _squeezed(reference)
    return float(bool(wanted) and wanted in _squeezed(prediction))


def exact_match(prediction: str, reference: str, *, classes: Collection[str] = ()) -> float:
    """1.0 if both are the same text up to outer white space, trailing full stops and upper or lower case.

    A prediction that is written like one of `classes` counts for that class only, so that "a" is wrong for "A" where
    both are classes.
    """
    said, wanted = bare(prediction), bare(reference)
    if said in map(bare, classes):
        return float(said == wanted)
    return float(said.casefold() == wanted.casefold())


def bare(text: str) -> str:
    """The text in Unicode normal form C, without outer white space and trailing full stops."""
    return unicodedata.normalize("NFC", text).strip().rstrip(".").rstrip()


def mean_and_stderr(scores: Sequence[float]) -> tuple[float, float | None]:
    """The mean, and its standard error: the sample standard deviation (n - 1) over the square root of n.

    The standard error of a single score is unknown: None, not 0. ValueError if there are no scores.
    """
    if not scores:
        raise ValueError("the mean of no scores is undefined")
    mean = statistics.fmean(scores)
    return mean, statistics.stdev(scores, mean) / len(scores) ** 0.5 if len(scores) > 1 else None


def _squeezed(text: str) -> str:
    return text.lower().replace(".", "").replace(" ", "")
