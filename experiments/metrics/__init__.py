"""Scores of answers, and their means: pure functions.

`text`, `letters`, `vqa` and `boxes` score one answer, between 0 and 1, higher is better; `captions` scores a set of
them. Where a benchmark can be scored in two ways, `scoring="reference"` is what the paper's public implementation does,
with its accidents, and `scoring="strict"` is what the answer says; each docstring tells where they differ.
"""

from experiments.metrics.boxes import Box, box_scores, parse_box
from experiments.metrics.captions import Caption, corpus_scores, per_video_scores, require_scorers
from experiments.metrics.letters import illusion_score, mme_score, strict_letter, videomme_score
from experiments.metrics.rules import Scoring
from experiments.metrics.text import bare, exact_match, normalised_substring
from experiments.metrics.vqa import vqa_accuracy, vqa_answer

__all__ = [
    "Box",
    "Caption",
    "Scoring",
    "bare",
    "box_scores",
    "corpus_scores",
    "exact_match",
    "illusion_score",
    "mme_score",
    "normalised_substring",
    "parse_box",
    "per_video_scores",
    "require_scorers",
    "strict_letter",
    "videomme_score",
    "vqa_accuracy",
    "vqa_answer",
]
