"""The option letter that an answer to a multiple-choice question gives, and whether it is the right one.

Every score takes `scoring`. "reference" is the rule of the paper's public implementation, which differs from benchmark
to benchmark and finds letters in words; "strict" is one rule for all of them, `strict_letter`.
"""

import re
import string
from functools import cache

from emloc.errors import UserError
from experiments.metrics.rules import Scoring, is_strict

# Deleted in this order: the longer of two phrases comes first.
_ANSWER_IS = ("The best answer is", "The correct answer is", "The answer is", "The answer")
_MME_PHRASES = (*_ANSWER_IS, "The best option is", "The correct option is", "Best answer:", "Best option:")
_VIDEOMME_PHRASES = (*_ANSWER_IS, "The best option isThe correct option is", "Best answer:Best option:")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def illusion_score(
    prediction: str, reference: str, *, scoring: Scoring = "reference", letters: str = "ABCDEF"
) -> float:
    """1.0 if the answer to an IllusionVQA question gives the letter of the right option.

    Reference rule: `illusion_letter` of the prediction equals the reference when both are in lower case and without
    ASCII punctuation. So "A", "a", "A." and "(A)" are right for "A"; "A The left one" and "A) left" are wrong.
    """
    if is_strict(scoring):
        return _strict_score(prediction, reference, letters)
    return float(_plain(illusion_letter(prediction)) == _plain(reference))


def illusion_letter(response: str) -> str:
    """The capital letter that the response begins with if a full stop follows it, otherwise the whole response.

    Source: the answer filter of the paper's public implementation. Outer white space is removed.
    """
    found = re.match(r"([A-Z])\.", response.strip())
    return found[1] if found else response.strip()


def mme_score(prediction: str, reference: str, *, scoring: Scoring = "reference", letters: str = "ABCDE") -> float:
    """1.0 if the answer to an MME-RealWorld question gives the letter of the right option.

    Reference rule: `mme_letter` of the prediction is the reference or has it in it, in upper or lower case.
    """
    if is_strict(scoring):
        return _strict_score(prediction, reference, letters)
    return float(reference.lower() in mme_letter(prediction).lower())


def mme_letter(response: str) -> str:
    """The first capital A to E anywhere in the response, of which eight stock phrases have been deleted.

    Without such a capital it is the letter of the first of "(a)" to "(e)" in which the whole response occurs in lower
    case, and nothing if there is none. (So more than ten words without a capital are nothing, which the source has as a
    rule of its own.) Source: MME-RealWorld's evaluation, which the paper uses. An empty response is "A", as is "a";
    "Answer: B" is "A" for its first letter, "Based on the image" is "B"; and "The answer is b" is nothing, because the
    space before the b is kept.
    """
    text = _without(response.strip(), _MME_PHRASES)
    found = re.search("[ABCDE]", text)
    if found:
        return found[0]
    return next((letter for letter in "ABCDE" if text.lower() in f"({letter.lower()})"), "")


def videomme_score(prediction: str, reference: str, *, scoring: Scoring = "reference", letters: str = "ABCD") -> float:
    """1.0 if the answer to a Video-MME question gives the letter of the right option.

    Reference rule: `videomme_letter` of the prediction equals the reference.
    """
    if is_strict(scoring):
        return _strict_score(prediction, reference, letters)
    return float(videomme_letter(prediction) == reference)


def videomme_letter(response: str) -> str:
    """The first capital A to D anywhere in the response, of which stock phrases have been deleted; nothing without one.

    Source: Video-MME's evaluation in the paper's public implementation. Four of its phrases have run together in pairs,
    which no answer has in it: "Best option: C" and "Best answer: C" are "B". "Answer: D" is "A".
    """
    found = re.search("[ABCD]", _without(response, _VIDEOMME_PHRASES))
    return found[0] if found else ""


def strict_letter(response: str, letters: str) -> str:
    """The one letter of `letters` that stands as an option letter in the response; nothing if there is none.

    A letter stands as an option letter

    - where the response is nothing else, in upper or lower case: "B", "b.", "(b)", "B:", "B)";
    - as a capital at the beginning of a line, in parentheses or before a closing parenthesis, a full stop, a colon or
      the end of the line: "(B) the left one", "B) left", "B. The left one"; but not in "D.C." or "A cat sits";
    - as a capital, in parentheses or not, after `answer`, `option` or `choice`, which `is`, `was`, `would be`, a colon
      and `the`, `option`, `choice` or `letter` may follow: "The answer is B", "answer: (B)", "It is option B because
      it is red". An A before a further word is an article ("The answer is A cat"), unless the word is because, since,
      as, and, or.

    Letters that stand side by side ("The answer is A or B") all count. If different letters stand as option letters,
    anywhere in the response, it gives none of them. Asterisks, which mark bold type, are left out of account. The rule
    is ours; it is meant to find nothing where a careful reader would not.

    Raises
    ------
    UserError
        If `letters` are not distinct capitals.
    """
    _check(letters)
    text = response.replace("*", "").strip()
    alone = re.fullmatch(rf"\(?([{letters}])[.:)]*", text.upper())
    if alone:
        return alone[1]
    found = {
        letter
        for place in _places(letters)
        for match in place.finditer(text)
        for letter in re.findall(rf"\b[{letters}]\b", match[0])
    }
    return found.pop() if len(found) == 1 else ""


@cache
def _places(letters: str) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """The letters at the beginning of a line, and those after a lead-in."""
    letter, blanks = f"[{letters}]", r"[^\S\n]*"
    marked = rf"(?:\({blanks}{letter}{blanks}\)|{letter}{blanks}(?:\)|[.:](?!\w\b)|$))"
    article = r"(?<=A)[^\S\n]+(?!(?:because|since|as|and|or)\b)\w"
    bare = rf"(?:\(\s*{letter}\s*\)|\b{letter}\b(?!['’-]\w|\.\w\b|{article}))"
    lead_in = (
        r"(?i:\b(?:answer|option|choice)\b(?:\s+(?:is|was|would\s+be))?\s*:?\s*"
        r"(?:the\s+)?(?:\b(?:option|choice|letter)\b\s*:?\s*)?)"
    )
    beside = rf"{blanks}[,/&]?{blanks}(?:(?:and|or){blanks})?"
    return (
        re.compile(rf"^{blanks}{marked}(?:{beside}{marked})*", re.MULTILINE),
        re.compile(rf"{lead_in}{bare}(?:{beside}{bare})*"),
    )


def _check(letters: str) -> None:
    if not re.fullmatch("[A-Z]+", letters) or len(set(letters)) < len(letters):
        raise UserError(f"letters must be distinct capitals such as 'ABCD', but got {letters!r}.")


def _strict_score(prediction: str, reference: str, letters: str) -> float:
    letter = strict_letter(prediction, letters)
    return float(letter != "" and letter == reference)


def _without(text: str, phrases: tuple[str, ...]) -> str:
    for phrase in phrases:
        text = text.replace(phrase, "")
    return text


def _plain(text: str) -> str:
    return text.lower().translate(_NO_PUNCTUATION)
