"""Caption metrics: BLEU-1 to BLEU-4, ROUGE-L and CIDEr (its D variant), all times 100.

The scorers are those of pycocoevalcap, the COCO caption evaluation, which the paper's implementation also uses. What
runs on Java there is not used: words are found by our own rules (see `tokens`), and METEOR is left out.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from emloc.errors import UserError
from experiments.metrics.tokens import caption_words
from experiments.records.schema import Mean

_LENGTHS = 4  # n-grams of 1 to 4 words, in BLEU and in CIDEr
_SIGMA = 6.0  # of CIDEr's Gaussian penalty on a difference in length, in words
_PERCENT = 100


@dataclass(frozen=True, kw_only=True)
class Caption:
    """A caption that a model gave, what people wrote (one text or more), and the video that the clip is from."""

    prediction: str
    references: Sequence[str]
    video: str = ""

    def __post_init__(self) -> None:
        if isinstance(self.references, str) or not self.references:
            raise UserError(f"A caption needs a list of one reference text or more, but got {self.references!r}.")


def corpus_scores(captions: Iterable[Caption]) -> dict[str, float]:
    """Every metric over all captions together, times 100, by name: "BLEU-1" to "BLEU-4", "ROUGE-L", "CIDEr".

    BLEU is the corpus measure with the closest reference length; ROUGE-L (beta 1.2) is the mean over captions; CIDEr is
    CIDEr-D (n-grams of up to 4 words, sigma 6, factor 10, so 1000 at best), with document frequencies from the
    references given here. CIDEr is 0 where there is one caption, as every word is then in every document.

    Raises
    ------
    UserError
        If there are no captions, or the extra `metrics` is not installed.
    """
    words = [(_joined(c.prediction), [_joined(reference) for reference in c.references]) for c in captions]
    if not words:
        raise UserError("Caption metrics need at least one caption, but got none; check that the dataset has samples.")
    return {name: float(score) * _PERCENT for name, score in _scores(words).items()}


def per_video_scores(captions: Iterable[Caption]) -> dict[str, Mean]:
    """The mean over videos of `corpus_scores` within each video, with its standard error over videos.

    So the paper's public implementation scores YouCook2. CIDEr's document frequencies come from the video's own clips,
    so that these values are not comparable with `corpus_scores`, and a video with one clip has CIDEr 0. One deviation:
    under each of the names BLEU-1 to BLEU-4, the public implementation reports the mean of the four.

    Raises
    ------
    UserError
        As `corpus_scores`.
    """
    by_video: dict[str, list[Caption]] = {}
    for caption in captions:
        by_video.setdefault(caption.video, []).append(caption)
    videos = [corpus_scores(clips) for clips in by_video.values()] or [corpus_scores([])]
    return {name: Mean.of([scores[name] for scores in videos]) for name in videos[0]}


def require_scorers() -> None:
    """UserError if the extra `metrics` is not installed: better before the answers are given than after."""
    _scorers()


def _scores(words: list[tuple[str, list[str]]]) -> dict[str, float]:
    bleu, rouge, cider = _scorers()
    for prediction, references in words:
        bleu += (prediction, references)
        cider += (prediction, references)
    by_length, _ = bleu.compute_score(option="closest")
    said_nothing = not any(reference for _, references in words for reference in references)
    return {
        **{f"BLEU-{n}": score for n, score in enumerate(by_length, start=1)},
        "ROUGE-L": sum(rouge.calc_score([said], wanted) for said, wanted in words) / len(words),
        "CIDEr": 0.0 if said_nothing else cider.compute_score()[0],
    }


def _scorers() -> tuple[Any, Any, Any]:
    """Empty scorers of BLEU, ROUGE-L and CIDEr."""
    try:
        from pycocoevalcap.bleu.bleu_scorer import BleuScorer
        from pycocoevalcap.cider.cider_scorer import CiderScorer
        from pycocoevalcap.rouge.rouge import Rouge
    except ImportError as error:
        raise UserError(
            "Expected pycocoevalcap to be installed for caption metrics, but it is not; pip install 'emloc[metrics]'."
        ) from error
    return BleuScorer(n=_LENGTHS), Rouge(), CiderScorer(n=_LENGTHS, sigma=_SIGMA)


def _joined(text: str) -> str:
    return " ".join(caption_words(text))
