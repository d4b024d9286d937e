"""Caption metrics, against values computed by hand, and the words they count."""

import sys
from math import exp, sqrt
from statistics import fmean, stdev

import pytest

from emloc.errors import UserError
from experiments.metrics import Caption, corpus_scores, per_video_scores
from experiments.metrics.tokens import caption_words

NAMES = ["BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "ROUGE-L", "CIDEr"]


def caption(prediction: str, *references: str, video: str = "") -> Caption:
    return Caption(prediction=prediction, references=references, video=video)


COLOURS = [caption("big red cat", "red cat", video="x"), caption("red dog", "red dog", video="x")]
# "red" is in both references and weighs log(2/2) = 0, every other n-gram log(2/1) = w. The first caption has one word
# more than its reference. Of their words, "cat" against "big, cat" makes a cosine of w * w / (w * sqrt(2 * w * w)), and
# so do their pairs of words. The second caption has both cosines 1. No n-grams of three and four words are shared.
CIDER_OF_COLOURS = 100 * fmean([10 * (2 / sqrt(2)) / 4 * exp(-(1**2) / (2 * 6**2)), 10 * 2 / 4])


@pytest.mark.parametrize(
    ("text", "words"),
    [  # as the tokeniser of the COCO evaluation splits them
        ("Add 1/2 cup of onions, garlic & salt.", "add 1/2 cup of onions garlic & salt"),
        ("Don't stir it; it's hot! (use a spoon)", "do n't stir it it 's hot ( use a spoon )"),
        ("Stir-fry it for 3-4 minutes...", "stir-fry it for 3-4 minutes"),
        ("the chef's knife can't cut, they'll cook it", "the chef 's knife ca n't cut they 'll cook it"),
        ("We've \"seen\" 'that' and `this`", "we 've seen that and this"),
        ("cannot wanna gotta 'tis 'twas", "can not wan na got ta 't is 't was"),
        ("add 1,000 g at 180.5 degrees -- done - yes", "add 1,000 g at 180.5 degrees done yes"),
        ("heat to 350F / 180C; approx. 2 tbsp. of oil", "heat to 350f / 180c approx 2 tbsp of oil"),
        ("Mr. Smith adds the U.S. cheese at 5 p.m.", "mr. smith adds the u.s. cheese at 5 p.m."),
        ("costs $5.00 50% #1 a+b a_b e.g. etc.", "costs $ 5.00 50 % # 1 a + b a_b e.g. etc."),
        ("2.5kg of 1/2-inch and 200g of 1-inch, no. 1 pan", "2.5 kg of 1/2-inch and 200g of 1-inch no. 1 pan"),
        ("o'clock rock 'n' roll and/or M&M's", "o'clock rock 'n' roll and/or m&m 's"),
        ("what?! yes!! no! --- ok", "what ?! yes !! no ok"),
        ("at 10:30 mix well.then serve", "at 10:30 mix well.then serve"),
        ("crème fraîche: 猫 180°C", "cr me fra che 180 c"),
        ("a\tb\n\nc", "a b c"),
        ("", ""),
        (" ... ", ""),
    ],
)
def test_words_of_a_caption(text: str, words: str) -> None:
    assert caption_words(text) == words.split()


def test_bleu_and_rouge_of_a_known_pair() -> None:
    scores = corpus_scores([caption("The cat sat on mat.", "the cat sat on the mat")])
    brevity = exp(1 - 6 / 5)
    precisions = [5 / 5, 3 / 4, 2 / 3, 1 / 2]
    product = 1.0
    for n, precision in enumerate(precisions, start=1):
        product *= precision
        assert scores[f"BLEU-{n}"] == pytest.approx(100 * brevity * product ** (1 / n), rel=1e-6)
    precision, recall, beta = 1.0, 5 / 6, 1.2
    rouge = (1 + beta**2) * precision * recall / (recall + beta**2 * precision)
    assert scores["ROUGE-L"] == pytest.approx(100 * rouge)


def test_bleu_is_of_the_corpus_and_rouge_the_mean_of_its_captions() -> None:
    scores = corpus_scores([caption("red cat", "red cat"), caption("a big green dog", "the old blue hen")])
    assert scores["BLEU-1"] == pytest.approx(100 * 2 / 6, rel=1e-6)
    assert scores["ROUGE-L"] == pytest.approx(50)


def test_the_closest_reference_has_the_length() -> None:
    scores = corpus_scores([caption("a b c d e f g", "a b c d e f g h", "a b c")])
    assert scores["BLEU-4"] == pytest.approx(100 * exp(1 - 8 / 7), rel=1e-6)


def test_cider_of_identical_captions() -> None:
    same = [caption(text, text) for text in ("a b c d e", "f g h i")]
    assert corpus_scores(same)["CIDEr"] == pytest.approx(1000)
    # No n-grams of three and four words: half of the four n count nothing.
    assert corpus_scores([caption("red cat", "red cat"), caption("old dog", "old dog")])["CIDEr"] == pytest.approx(500)


def test_cider_of_captions_that_differ() -> None:
    assert corpus_scores(COLOURS)["CIDEr"] == pytest.approx(CIDER_OF_COLOURS)


def test_cider_cuts_a_repeated_word_to_the_reference() -> None:
    scores = corpus_scores([caption("cat cat cat", "cat nap"), caption("dog", "dog")])
    # cat three times is cut to the reference's one; the norm is not: 1 * 1 / (3 * sqrt 2). No bigram is shared.
    first = 10 / (3 * sqrt(2)) / 4 * exp(-1 / 72)
    assert scores["CIDEr"] == pytest.approx(100 * (first + 10 / 4) / 2)


def test_one_caption_has_no_cider() -> None:
    assert corpus_scores([caption("a b c d", "a b c d")])["CIDEr"] == 0.0


def test_scores_within_each_video() -> None:
    clips = [
        *(caption("a b c d e", "a b c d e", video="x"), caption("f g h i", "f g h i", video="x")),
        caption("a b c d", "a b c d", video="y"),
        *(caption("k", "l", video="z"), caption("m", "n", video="z")),
    ]
    scores = per_video_scores(clips)
    assert list(scores) == NAMES
    cider = [1000.0, 0.0, 0.0]
    assert scores["CIDEr"].value == pytest.approx(fmean(cider))
    assert scores["CIDEr"].stderr == pytest.approx(stdev(cider) / sqrt(3))
    assert scores["ROUGE-L"].value == pytest.approx(200 / 3)
    assert {score.n for score in scores.values()} == {3}
    assert corpus_scores(clips)["CIDEr"] == pytest.approx(600)  # three of five captions; rarity in all five


def test_document_frequencies_are_those_of_the_video() -> None:
    clips = [*COLOURS, caption("red hen", "a big hen", video="y")]
    assert per_video_scores(clips)["CIDEr"].value == pytest.approx(CIDER_OF_COLOURS / 2)
    assert corpus_scores(clips)["CIDEr"] < 0.9 * CIDER_OF_COLOURS


def test_odd_captions() -> None:
    scores = corpus_scores([caption("", "a b"), caption("猫", "c d"), caption("...", "e")])
    assert list(scores) == NAMES
    assert set(scores.values()) == {0.0}
    assert corpus_scores([caption("a", ""), caption("b", "...")])["CIDEr"] == 0.0
    assert all(type(score) is float for score in scores.values())


@pytest.mark.parametrize("scores", [corpus_scores, per_video_scores])
def test_no_captions(scores) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(UserError, match="at least one caption, but got none"):
        scores([])


@pytest.mark.parametrize("references", [[], "a text"])
def test_a_caption_needs_a_list_of_references(references: list[str]) -> None:
    with pytest.raises(UserError, match="list of one reference text or more"):
        Caption(prediction="a", references=references)


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pycocoevalcap.bleu.bleu_scorer", None)
    with pytest.raises(UserError, match=r"pip install 'emloc\[metrics\]'"):
        corpus_scores([caption("a", "a")])
