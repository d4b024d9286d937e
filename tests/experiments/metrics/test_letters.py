"""Option letters: the rules of each benchmark, with their accidents, and the strict rule."""

import pytest

from emloc.errors import UserError
from experiments.metrics import illusion_score, mme_score, strict_letter, videomme_score
from experiments.metrics.letters import illusion_letter, mme_letter, videomme_letter


@pytest.mark.parametrize(
    ("response", "letter"),
    [
        ("A", "A"),
        (" \n B. The left object", "B"),
        ("U.S. flags", "U"),
        ("AB. both", "AB. both"),
        ("b. left", "b. left"),
        ("A .", "A ."),
        ("Object A.", "Object A."),
        ("", ""),
    ],
)
def test_illusion_letter(response: str, letter: str) -> None:
    assert illusion_letter(response) == letter


@pytest.mark.parametrize("prediction", ["A", "A.", "(A)", "a", " A\n", "A. The left object", '"a!"'])
def test_illusion_score_of_the_right_option(prediction: str) -> None:
    assert illusion_score(prediction, "A") == 1.0


@pytest.mark.parametrize("prediction", ["A The left object", "A) left", "B", "", "A .", "The answer is A", "А"])
def test_illusion_score_of_anything_else(prediction: str) -> None:
    assert illusion_score(prediction, "A") == 0.0


@pytest.mark.parametrize(
    ("response", "letter"),
    [
        ("", "A"),
        ("The answer", "A"),
        ("a", "A"),
        ("b", "B"),
        ("(e)", "E"),
        ("d)", "D"),
        ("f", ""),
        ("The answer is b", ""),  # the space before the b
        ("Answer: B", "A"),
        ("Based on the image", "B"),
        ("The best answer is C.", "C"),
        ("The correct answer is (D)", "D"),
        ("The best option is E", "E"),
        ("The correct option is B", "B"),
        ("The answer: C", "C"),
        ("Best answer: C", "C"),
        ("Best option: C", "C"),
        ("best Option: D", "D"),
        ("I see a dog", ""),
        ("one two three four five six seven eight nine ten a", ""),
        ("one two three four five six seven eight nine ten D", "D"),
        ("Ｂ é 猫", ""),
    ],
)
def test_mme_letter(response: str, letter: str) -> None:
    assert mme_letter(response) == letter


def test_mme_score_is_of_the_letter() -> None:
    assert [mme_score("(C) red", reference) for reference in ("C", "c", "A", "E")] == [1.0, 1.0, 0.0, 0.0]
    assert mme_score("", "A") == 1.0
    assert mme_score("no idea", "A") == 0.0


@pytest.mark.parametrize(
    ("response", "letter"),
    [
        ("", ""),
        ("a", ""),
        ("C.", "C"),
        ("Best option: C", "B"),
        ("Best answer: C", "B"),
        ("The best option is C", "C"),
        ("The correct answer is D", "D"),
        ("Answer: D", "A"),
        ("E", ""),
        ("one two three four five six seven eight nine ten eleven", ""),
    ],
)
def test_videomme_letter(response: str, letter: str) -> None:
    assert videomme_letter(response) == letter


def test_videomme_score_is_case_sensitive() -> None:
    assert [videomme_score("C. Rome", reference) for reference in ("C", "c", "A")] == [1.0, 0.0, 0.0]
    assert videomme_score("", "A") == 0.0


@pytest.mark.parametrize(
    "response",
    [
        *("B", "b", "B.", "b.", "B:", "B)", "(B)", "(b)", "(B).", " B \n", "**B**"),
        *("B. the left one", "(B) the left one", "B) left", "B: left", "B.The left one", "(B)The left one", "( B ) x"),
        *("B\nbecause it is red", "Red, I think.\nB", "I see one.\n  (B) left", "B\r\nred"),
        *("The answer is B", "the answer is: (B).", "Answer: B", "answer:B", "Best option: B", "OPTION: B", "Option B"),
        *("The correct answer is option B because A cat sits", "I choose option (B), the left one", "my choice is B!"),
        *("The answer is the letter B", "The answer would be B", "**Answer:** B. Red", "Answer:\n\nB"),
        *("B. The answer is B", "Option B. B) left", "B. C is not red", "A cat, so the answer is B"),
    ],
)
def test_a_letter_that_stands_as_an_option_letter(response: str) -> None:
    assert strict_letter(response, "ABCD") == "B"


@pytest.mark.parametrize(
    "response",
    [
        *("", " ", "A cat sits", "a cat", "Based on the image", "BB", "E", "(E)", "cat B", "D.C. is a city", "A.M."),
        *("The answer is A cat", "Answer A question", "The answer is a", "The answer is Bob", "The answer is not B"),
        *("The answer is A-frame", "The answer is B's", "options: A, B, C", "The answers B", "The left one (B)"),
        *(
            "The answer is A or B",
            "Answer: A, B",
            "A) B)",
            "(A)(B)",
            "(A), and (B)",
            "A. left\nB. right",
            "B. No: the answer is C",
        ),
        *("option A, not option B", "A, B", "A or B", "Ｂ", "Б", "é"),
    ],
)
def test_no_letter_or_several(response: str) -> None:
    assert strict_letter(response, "ABCD") == ""


def test_an_article_after_a_lead_in_is_no_letter_but_a_reason_may_follow() -> None:
    assert strict_letter("The answer is A because it is red", "ABCD") == "A"
    assert strict_letter("The answer is A. It is red", "ABCD") == "A"
    assert strict_letter("The answer is A\nIt is red", "ABCD") == "A"
    assert strict_letter("The answer is A\nB is not red", "ABCD") == "A"
    assert strict_letter("The answer is A big cat", "ABCD") == ""
    assert strict_letter("The answer is B big cat", "ABCD") == "B"


def test_only_the_letters_of_the_options_count() -> None:
    assert strict_letter("(F) none", "ABCDEF") == "F"
    assert strict_letter("(F) none", "ABCDE") == ""
    for letters in ("", "AA", "a", "A-Z"):
        with pytest.raises(UserError, match="distinct capitals"):
            strict_letter("A", letters)


@pytest.mark.parametrize("score", [illusion_score, mme_score, videomme_score])
def test_strict_scores(score) -> None:  # type: ignore[no-untyped-def]
    assert score("Answer: B", "B", scoring="strict") == 1.0
    assert score("", "A", scoring="strict") == 0.0
    assert score("", "", scoring="strict") == 0.0
    assert score("A dog", "A", scoring="strict") == 0.0
    assert score("D", "D", scoring="strict", letters="ABC") == 0.0
    with pytest.raises(UserError, match=r"'reference' or 'strict', but got 'Strct'. Did you mean 'strict'\?"):
        score("A", "A", scoring="Strct")
