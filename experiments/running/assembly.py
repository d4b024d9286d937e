"""From what a run measured to its record."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from emloc.memory import Memory
from emloc.methods.base import Method
from emloc.methods.trace import OwnContext, Trace, Training
from emloc.prompt import Demonstration
from experiments.datasets.base import Dataset, Sample
from experiments.datasets.codewords import AnswerCode
from experiments.metrics.breakdown import Scored
from experiments.records.schema import Answers, Chosen, ContextSize, Divergence, Literal, Metric, Seconds
from experiments.running.evaluation import Answered
from experiments.running.heldout import HeldOut


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a run measured."""

    trace: Trace
    answered: Answered
    heldout: HeldOut | None  # None if not asked for
    load_seconds: float
    encode_seconds: float


def metrics(dataset: Dataset, samples: Sequence[Sample], answered: Answered) -> list[Metric]:
    """The dataset's metrics over what was answered, the one that runs are compared by first."""
    by_id = {sample.id: sample for sample in samples}
    return dataset.summarise(
        [
            Scored(given.scores, by_id[given.id].parts, given.prediction, given.target, by_id[given.id].reference)
            for given in answered.predictions
        ]
    )


def chosen(dataset: Dataset, demonstrations: Sequence[Demonstration]) -> Chosen:
    """Which demonstrations there were, and by which rule."""
    return Chosen(dataset.rule, [item.id for item in demonstrations])


def fingerprints(dataset: Dataset) -> dict[str, Literal]:
    """What tells whether a prompt's constant texts are those of another run, or of another program."""
    return {
        name: Literal(len(text), hashlib.sha256(text.encode()).hexdigest()) for name, text in dataset.prompts.items()
    }


def context_size(memory: Memory, own: Sequence[OwnContext] = ()) -> ContextSize:
    """Size of the memory, or the mean of queries' own contexts, and what it would be if nothing had been pruned."""
    full = fmean(context.tokens_full for context in own) if own else memory.tokens_seen
    layers = [context.tokens_kept_per_layer for context in own] or [memory.lengths]
    lengths = [fmean(column) for column in zip(*layers, strict=True)]
    ragged = any(layer.counts for layer in memory.layers)
    kept, entries = fmean(lengths), [layer.entry_bytes for layer in memory.layers]
    of_own = round(sum(length * size for length, size in zip(lengths, entries, strict=True)))
    return ContextSize(
        tokens_full=round(full),
        tokens_kept_mean=kept,
        tokens_kept_per_layer=[round(length) for length in lengths],
        compression=full / kept if kept else None,
        bytes_full=round(full * sum(entries)),
        bytes_kept=of_own if own else memory.nbytes,
        per_query=bool(own),
        tokens_kept_per_head=[list(layer.lengths) for layer in memory.layers] if ragged and not own else None,
    )


def divergence(outcome: Outcome, delta: float | None) -> Divergence:
    """What the answers' divergence is, and what the method's limit was."""
    found = outcome.heldout
    final = [chunk.js for chunk in outcome.answered.own_contexts or outcome.trace.chunks]
    judged = [chunk.crossfit for chunk in outcome.trace.chunks]
    crossfit = None if all(js is None for js in judged) else judged
    if found is None:
        return Divergence(delta, final, None, crossfit_per_chunk=crossfit)
    return Divergence(delta, final, found.mean, found.per_layer, found.queries, found.agreement, crossfit, found.total)


def seconds(outcome: Outcome) -> Seconds:
    """Wall-clock times of the run."""
    query = sum(prediction.seconds for prediction in outcome.answered.predictions)
    trace = outcome.trace
    compress = outcome.encode_seconds + trace.deciding.seconds
    return Seconds(outcome.load_seconds, compress, query, trace.measuring.seconds)


def answers(code: AnswerCode) -> Answers:
    """How class names were written."""
    return Answers(bool(code.words), dict(code.words))


def notes(method: Method, outcome: Outcome, origin: str | None = None, *, given: int = 0) -> list[str]:
    """What a reader of the numbers should not miss.

    `origin` is that of the weights, if their name does not say it; `given` demonstrations might be in the context.
    """
    memory, skipped = outcome.trace.memory, outcome.answered.skipped
    # Where queries have contexts of their own, those are what the method prunes; this memory is not.
    may_prune = method.allocation is not None and outcome.trace.chunks and not outcome.answered.own_contexts
    kept_all = memory.tokens_seen == memory.mean_length
    found = ["nothing was pruned: the method kept every token of the context"] if may_prune and kept_all else []
    found += [f"the weights are {origin}"] if origin else []
    found += [*_refitted(outcome.trace), *_quantised(memory), *_trained(outcome.trace.trained)]
    shown = sum(chunk.demonstrations for chunk in outcome.trace.chunks)
    if shown < given and method.schedule is None and not outcome.answered.own_contexts:
        found.append(f"{shown} of {given} demonstrations are in the context; its full length here is theirs alone")
    if skipped:
        total = len(skipped) + len(outcome.answered.predictions)
        found.append(f"{len(skipped)} of {total} queries could not be asked and count nowhere (see skipped)")
    return found


def _refitted(trace: Trace) -> list[str]:
    if not trace.memory.refitted:
        return []
    chunks = [chunk for chunk in trace.chunks if chunk.refitted]
    note = f"values of {len(chunks)} of {len(trace.chunks)} chunks were refitted: they are no longer the model's own"
    fitted_on = "; their divergence is on the very demonstrations that they were fitted on"
    return [note + fitted_on if any(chunk.crossfit is None for chunk in chunks) else note]


def _quantised(memory: Memory) -> list[str]:
    if memory.quantisation is None:
        return []
    layout = f"{memory.quantisation.bits} bits in groups of {memory.quantisation.group}"
    return [f"simulated: entries are rounded to {layout}, but held in the model's own type; bytes are as if stored so"]


def _trained(learned: Training | None) -> list[str]:
    if learned is None:
        return []
    steps = f"{learned.steps} steps, {learned.epochs} epochs, loss {learned.first_loss:.2f} -> {learned.last_loss:.2f}"
    size = f"{learned.parameters:,} parameters ({learned.bytes / 1e6:.2f} MB)"
    return [f"{size} were trained in {steps}; the context is empty"]
