"""From what a run measured to its record."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from emloc.memory import Memory, MemoryLayer
from emloc.methods.base import Compression
from experiments.codewords import AnswerCode
from experiments.evaluate import Prediction
from experiments.metrics import MetricSpec, mean_and_stderr
from experiments.record import Answers, ContextSize, Divergence, Metric, Seconds


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a run measured."""

    compression: Compression
    predictions: Sequence[Prediction]
    heldout: float | None
    layer_forwards: int
    load_seconds: float
    compress_seconds: float


def metric(spec: MetricSpec, predictions: Sequence[Prediction]) -> Metric:
    """Mean and standard error over all queries, and the mean of every class."""
    value, stderr = mean_and_stderr([prediction.score for prediction in predictions])
    by_class: dict[str, list[float]] = {}
    for prediction in predictions:
        by_class.setdefault(prediction.target, []).append(prediction.score)
    parts = {name: fmean(scores) for name, scores in sorted(by_class.items())}
    return Metric(spec.name, value, stderr, len(predictions), spec.higher_is_better, parts)


def context_size(memory: Memory) -> ContextSize:
    """Size of the memory, and what it would be if nothing had been pruned."""
    kept = memory.mean_length
    return ContextSize(
        tokens_full=memory.tokens_seen,
        tokens_kept_mean=kept,
        tokens_kept_per_layer=memory.lengths,
        compression=memory.tokens_seen / kept if kept else None,
        bytes_full=memory.tokens_seen * sum(map(_entry_bytes, memory.layers)),
        bytes_kept=memory.nbytes,
    )


def _entry_bytes(layer: MemoryLayer) -> int:
    """Bytes of one token's keys and values, all KV heads."""
    heads, _, size = layer.keys.shape
    return 2 * heads * size * layer.keys.element_size()


def divergence(outcome: Outcome, delta: float | None) -> Divergence:
    """What the answers' divergence is, and what the method's limit was."""
    return Divergence(delta, [chunk.js for chunk in outcome.compression.chunks], outcome.heldout)


def seconds(outcome: Outcome) -> Seconds:
    """Wall-clock times of the run."""
    query = sum(prediction.seconds for prediction in outcome.predictions)
    return Seconds(outcome.load_seconds, outcome.compress_seconds, query)


def answers(code: AnswerCode) -> Answers:
    """How class names were written."""
    return Answers(bool(code.words), dict(code.words))


def notes(compression: Compression) -> list[str]:
    """What a reader of the numbers should not miss."""
    may_prune = compression.budget_tokens is not None or any(chunk.candidates for chunk in compression.chunks)
    kept_all = compression.memory.tokens_seen == compression.memory.mean_length
    return ["nothing was pruned: the method kept every token of the context"] if may_prune and kept_all else []
