"""Scores of an answer that is compared as text. Every score is between 0 and 1, higher is better."""

import unicodedata
from collections.abc import Collection


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


def _squeezed(text: str) -> str:
    return text.lower().replace(".", "").replace(" ", "")
