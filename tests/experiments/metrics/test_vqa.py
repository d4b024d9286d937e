"""VQA accuracy, and the form in which answers are compared."""

import pytest

from emloc.errors import UserError
from experiments.metrics import Scoring, vqa_accuracy, vqa_answer
from experiments.metrics.vqa import _EXPANDED, _EXPANDED_REFERENCE


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("  The CAT.\n", "cat"),
        ("", ""),
        ("the", ""),
        ("a an the", ""),
        ("cat\tand\ndog", "cat and dog"),
        ("red, blue", "red blue"),
        ("yes!", "yes"),
        ("red-brown", "red brown"),
        ("red - brown", "red brown"),
        ("t-shirt - red-brown", "tshirt redbrown"),  # one dash next to a space: all dashes go
        ("red -brown-ish", "red brownish"),
        ("red- brown-ish", "red brownish"),
        ("a/b (c)", "b c"),
        ('"x"', "x"),
        ("[b]{c}=d+e\\f_g>h<i@j`k;l!m", "b c d e f g h i j k l m"),
        ("it's", "it 's"),
        ("dog's bowl", "dog 's bowl"),
        ("1,000", "1000"),
        ("1,000-2", "1000 2"),
        ("3.5", "3.5"),
        ("3. and .5 .", "3 and .5"),
        ("U.S.A.", "usa"),
        ("." * 33 + "x", ".x"),  # a flag is passed as the number of full stops
        ("none zero one two ten eleven", "0 0 1 2 10 eleven"),
        ("dont couldntve couldnt've couldn'tve", "don't couldntve couldn't've couldn't've"),
        ("im ive id've i'dve", "im ive id've i'dve"),
        ("somebody'd somebodyd twas oclock yalld've", "somebodyd somebodyd 'twas o'clock yalld've"),
        ("y'alld've yall'd've y'all'dve ow's'at", "y'all'd've y'all'd've y'all'd've ow 's'at"),
        ("Café 猫", "café 猫"),
        ("what?now", "whatnow"),
        ("one.", "1"),
        ("red:blue", "red:blue"),
    ],
)
def test_reference_form(text: str, answer: str) -> None:
    assert vqa_answer(text) == answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("it's", "it's"),
        ("red,blue", "red blue"),
        ("red, blue", "red blue"),
        ("what?now", "what now"),
        ("yes?", "yes"),
        ("1,000-2", "10002"),  # a comma between digits: all marks go
        ("1,000.5", "1000.5"),
        ("." * 40 + "x", "x"),
        ("im ive id've i'dve", "i'm i've i'd've i'd've"),
        ("somebody'd somebodyd", "somebody'd somebody'd"),
        ("The two cats.", "2 cats"),
        ("t-shirt - red-brown", "tshirt redbrown"),
    ],
)
def test_strict_form(text: str, answer: str) -> None:
    assert vqa_answer(text, scoring="strict") == answer


def test_the_table_of_contractions() -> None:
    # The public table has 120 entries: four begin with a capital that no lower-cased word has, two change nothing.
    assert len(_EXPANDED_REFERENCE) == 114
    assert len(_EXPANDED) == 118
    assert all(word.replace("'", "") == short.replace("'", "") for short, word in _EXPANDED.items())


@pytest.mark.parametrize("scoring", ["reference", "strict"])
@pytest.mark.parametrize(("agreeing", "score"), [(0, 0.0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1.0), (7, 1.0), (10, 1.0)])
def test_accuracy_among_ten(agreeing: int, score: float, scoring: Scoring) -> None:
    references = ["The cat."] * agreeing + [f"dog {i}" for i in range(10 - agreeing)]
    assert vqa_accuracy(" Cat ", references, scoring=scoring) == score


def test_accuracy_is_over_normalised_references() -> None:
    assert vqa_accuracy("2", ["two", "2", "Two.", "three"] * 2 + ["4", "5"]) == 1.0
    assert vqa_accuracy("it is", ["it's"] * 10) == 0.0
    assert vqa_accuracy("redblue", ["red,blue"] * 10) == 1.0
    assert vqa_accuracy("redblue", ["red,blue"] * 10, scoring="strict") == 0.0
    assert vqa_accuracy("", ["the"] * 10) == 1.0


@pytest.mark.parametrize(
    ("references", "score"),
    [
        (["cat"], 1.0),
        (["dog"], 0.0),
        (["cat", "dog"], 0.5),  # one person left out: the other agrees, or not
        (["cat", "cat"], 1.0),
        (["cat", "cat", "dog"], (0.5 + 0.5 + 1.0) / 3),
        (["cat", "cat", "cat", "dog"], (3 * 2 / 3 + 1.0) / 4),
        (["cat"] * 3 + ["dog"] * 2, (3 * 2 / 3 + 2 * 1.0) / 5),
        (["cat"] * 12, 1.0),
    ],
)
def test_accuracy_among_other_numbers_of_people(references: list[str], score: float) -> None:
    assert vqa_accuracy("cat", references) == pytest.approx(score, abs=1e-15)


def test_no_reference_is_an_error() -> None:
    with pytest.raises(UserError, match="one person or more, but got none"):
        vqa_accuracy("cat", [])
    with pytest.raises(UserError, match="'reference' or 'strict'"):
        vqa_answer("cat", scoring="official")  # type: ignore[arg-type]
