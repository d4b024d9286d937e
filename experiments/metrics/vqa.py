"""Accuracy of a short answer to a question about an image, against the answers of several people."""

import re
from collections.abc import Sequence

from emloc.errors import UserError
from experiments.metrics.rules import Scoring, is_strict

_AGREEING = 3  # as many people besides oneself make an answer fully right
_MARKS = ';/[]"{}()=+\\_-><@`,?!'
_ARTICLES = {"a", "an", "the"}
_NUMBER_WORDS = "zero one two three four five six seven eight nine ten"
_NUMBERS = {"none": "0", **{word: str(number) for number, word in enumerate(_NUMBER_WORDS.split())}}
_CONTRACTIONS = """
    ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd he'd've
    he's how'd how'll how's i'd've i'm i've isn't it'd it'd've it'll ma'am mightn't mightn't've might've mustn't must've
    needn't not've o'clock oughtn't 'ow's'at shan't she'd've should've shouldn't shouldn't've somebody'd somebody'd've
    somebody'll somebody's someone'd someone'd've someone'll someone's something'd something'd've something'll that's
    there'd there'd've there're there's they'd they'd've they'll they're they've 'twas wasn't we'd've we've weren't
    what'll what're what's what've when's where'd where's where've who'd who'd've who'll who's who've why'll why're
    why's won't would've wouldn't wouldn't've y'all y'all'll y'all'd've you'd you'd've you'll you're you've
"""
_EXPANDED = {
    word[:i] + word[i + 1 :]: word for word in _CONTRACTIONS.split() for i in range(len(word)) if word[i] == "'"
}
# The reference looks words up in lower case, while its table has "Im", "Ive" and "Id've"; and one entry is reversed.
_EXPANDED_REFERENCE = {
    **{short: word for short, word in _EXPANDED.items() if not word.startswith("i'") and word != "somebody'd"},
    "somebody'd": "somebodyd",
}


def vqa_accuracy(prediction: str, references: Sequence[str], *, scoring: Scoring = "reference") -> float:
    """How far people agree with the answer: the mean, over each person left out in turn, of min(1, agreeing / 3).

    `agreeing` is how many of the others gave the answer, after `vqa_answer` of all texts. Where 0, 1, 2, 3, and 4 or
    more of ten people gave the answer, that is 0, 0.3, 0.6, 0.9 and 1. Source: the official VQA evaluation, which the
    paper scores OK-VQA with; it knows ten people only. With fewer than four people the divisor is the number of the
    others, so that the answer of all is right (1.0); a single person's answer is right or wrong.

    Raises
    ------
    UserError
        If there is no reference.
    """
    if not references:
        raise UserError("vqa_accuracy needs the answers of one person or more, but got none; leave the question out.")
    said = vqa_answer(prediction, scoring=scoring)
    people = len(references)
    matching = sum(vqa_answer(reference, scoring=scoring) == said for reference in references)
    if people == 1:
        return float(matching)
    enough = min(_AGREEING, people - 1)
    agreeing = matching * min(enough, matching - 1) + (people - matching) * min(enough, matching)
    return agreeing / (people * enough)


def vqa_answer(text: str, *, scoring: Scoring = "reference") -> str:
    """The answer in the form in which answers are compared.

    Source: the EvalAI answer processor, as in the paper's public implementation. In this order:

    1. Lower case. Commas and question marks are deleted; an "'s" gets a space before it. White space around the text
       goes, newlines and tabs become spaces.
    2. Each of ; / [ ] " { } ( ) = + \\ _ - > < @ ` , ? ! is deleted wherever it stands if one of its kind stands next
       to a space, or if a comma stands between digits; otherwise each of its kind becomes a space.
    3. Full stops that no digit follows are deleted, the first 32 of them (a flag is passed as the number).
    4. Of the words, none and zero to ten become digits, a, an and the are dropped, and a contraction that lacks an
       apostrophe gets it back ("dont" -> "don't"). One space between words.

    So "it's" is "it 's", "1,000" is "1000", "red-brown" is "red brown", "im" stays, "somebody'd" is "somebodyd". The
    comma between digits never occurs, as rule 1 has deleted it. (The reference also adds every word that it meets to
    its table of numbers, which changes no answer.)

    Strict rules: as in the official VQA evaluation, nothing is deleted or separated in rule 1, so that "it's" stays
    one word, and commas and question marks are marks like the others ("red,blue" is "red blue", not "redblue").
    Besides, rule 3 has no limit, and rule 4 means what its table meant: "im", "ive" and "id've" get their apostrophe,
    and so does "somebodyd".
    """
    strict = is_strict(scoring)
    text = text.lower()
    if not strict:
        text = text.replace(",", "").replace("?", "").replace("'s", " 's")
    text = text.strip().replace("\n", " ").replace("\t", " ").strip()
    text = re.sub(r"\.(?!\d)", "", _without_marks(text), count=0 if strict else 32)
    expanded = _EXPANDED if strict else _EXPANDED_REFERENCE
    words = (_NUMBERS.get(word, word) for word in text.split())
    return " ".join(expanded.get(word, word) for word in words if word not in _ARTICLES)


def _without_marks(text: str) -> str:
    thousands = re.search(r"(?<=\d),+(?=\d)", text)
    gone = "".join(mark for mark in _MARKS if thousands or f"{mark} " in text or f" {mark}" in text)
    return text.translate(str.maketrans(_MARKS, " " * len(_MARKS), gone))
