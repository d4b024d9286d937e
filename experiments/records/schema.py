"""record.json: everything that is known of a finished run, as one typed record."""

import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from experiments.records.files import RECORD, write_atomically
from experiments.records.upgrade import SCHEMA, upgraded

COMPLETE = "complete"


@dataclass(frozen=True)
class MetricSpec:
    """What a dataset reports: the name of its metric, which way is up, and the unit of a hundred times its value."""

    name: str
    higher_is_better: bool = True
    unit: str = "%"  # empty for scores that are no share of anything, such as CIDEr


@dataclass(frozen=True)
class Mean:
    """A mean with its standard error, which is None for a single score, and the number of scores in it."""

    value: float
    stderr: float | None
    n: int

    @classmethod
    def of(cls, scores: Sequence[float]) -> "Mean":
        """The mean of scores; its standard error is their sample standard deviation (n - 1) over the root of n.

        ValueError if there are no scores.
        """
        if not scores:
            raise ValueError("the mean of no scores is undefined")
        mean = statistics.fmean(scores)
        stderr = statistics.stdev(scores, mean) / len(scores) ** 0.5 if len(scores) > 1 else None
        return cls(mean, stderr, len(scores))


@dataclass(frozen=True)
class Metric:
    """The score over all queries, and over every part of the dataset that has queries."""

    name: str
    value: float
    stderr: float | None  # None: unknown, of a single query
    n: int
    higher_is_better: bool
    parts: Mapping[str, Mean]
    unit: str = "%"  # of a hundred times the value

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> "Metric":
        """The metric as it is stored in JSON."""
        parts = {name: Mean(**part) for name, part in stored["parts"].items()}
        return cls(**{**stored, "parts": parts})


@dataclass(frozen=True)
class Chosen:
    """The demonstrations: the rule that chose them (see `Dataset`), and their ids in order."""

    rule: str
    ids: list[str]


@dataclass(frozen=True)
class Literal:
    """A constant text of a dataset's prompt: its number of characters and the SHA-256 of its UTF-8 bytes."""

    characters: int
    sha256: str


@dataclass(frozen=True)
class ContextSize:
    """Size of the context. Tokens are cache entries per KV head; `compression` is None where nothing is kept.

    `per_query`: every query has a context of its own, and these are means over queries, rounded where they are whole.
    `tokens_kept_per_head`: per layer and KV head, where heads of a layer keep different numbers; else None.
    `bytes_kept`: where entries are quantised, what they would take so, though they are held in the model's own type.
    """

    tokens_full: int
    tokens_kept_mean: float
    tokens_kept_per_layer: list[int]
    compression: float | None
    bytes_full: int
    bytes_kept: int
    per_query: bool = False
    tokens_kept_per_head: list[list[int]] | None = None


@dataclass(frozen=True)
class Divergence:
    """Jensen-Shannon divergences in nats; `delta` is the method's limit, None if it has none.

    `final_per_chunk`: where queries have contexts of their own, of the worst chunk of each. `heldout_mean`: on queries
    that decided nothing, against the whole context; `heldout_per_layer`: with only the layers from each layer up
    pruned, the first is the lowest. `agreement`: the share of these queries whose answer is that of the whole context.
    `total`: on the demonstrations themselves, asked at the end of the context, against the whole context: what the
    chunks' divergences, each against its own teacher, add up to. `crossfit_per_chunk`, where values were refitted: on
    demonstrations left out of the fit; None for a chunk whose values stayed the model's own.
    """

    delta: float | None
    final_per_chunk: list[float]
    heldout_mean: float | None
    heldout_per_layer: list[float] | None = None
    heldout_queries: int | None = None  # None also in records made before it was counted
    agreement: float | None = None
    crossfit_per_chunk: list[float | None] | None = None
    total: float | None = None


@dataclass(frozen=True)
class Seconds:
    """Wall-clock times. `load`, `compress` and `measure` (the divergence of the result) are of the process that
    finished the run; `query` is the sum over all queries, each timed (as its share of its batch) where it was answered,
    before or after an interruption."""

    load: float
    compress: float
    query: float
    measure: float = 0.0


@dataclass(frozen=True)
class Answers:
    """Whether class names were written as code words of the model's vocabulary, and which."""

    coded: bool
    words: Mapping[str, str]


@dataclass(frozen=True)
class Record:
    """A finished run. `metric` is the one that runs are compared by, `other_metrics` are all others of the dataset;
    `skipped` says why each query that could not be asked was left out; `layer_forwards` is the cost of the compression,
    `measuring_forwards` what it took besides to measure the divergence of its result; `peak_memory_bytes` is of the
    accelerator, or of the process on the CPU; `git` is None where the code is not a git checkout; `baselines` are
    scores of the metric that need no model, where the dataset knows some (`Dataset.baselines`); `trained` is what was
    learned, where a method trains weights: `parameters`, `bytes`, `epochs`, `steps`, `first_loss` and `last_loss`
    (nats); empty elsewhere."""

    schema: int
    status: str
    run_id: str
    config: dict[str, Any]
    demonstrations_id: str
    demonstrations: Chosen
    prompt_fingerprint: Mapping[str, Literal]
    answers: Answers
    metric: Metric
    other_metrics: list[Metric]
    skipped: Mapping[str, str]
    context: ContextSize
    js: Divergence
    layer_forwards: int
    measuring_forwards: int
    seconds: Seconds
    queries_per_second: float
    peak_memory_bytes: int
    device: str
    dtype: str
    versions: dict[str, str]
    git: dict[str, Any] | None
    notes: list[str]
    baselines: Mapping[str, float] = field(default_factory=dict)
    trained: Mapping[str, float] = field(default_factory=dict)

    def has_heldout(self, queries: int, *, layers: bool) -> bool:
        """Whether the figures on so many held-out queries are there, or there is no shared context to measure."""
        if not queries or not self.context.tokens_full or self.context.per_query:
            return True
        measured = self.js.heldout_mean is not None and self.config.get("heldout_js", 0) >= queries
        return measured and (not layers or self.js.heldout_per_layer is not None)

    def write(self, path: Path) -> None:
        """Write the record atomically: the file is there as a whole or not at all."""
        write_atomically(path, json.dumps(asdict(self), indent=2) + "\n")

    @classmethod
    def read(cls, path: Path) -> "Record | None":
        """The finished run recorded there; None if there is no file, or it is of another schema or unfinished."""
        try:
            stored = upgraded(json.loads(path.read_text(encoding="utf-8")))
            complete = stored["schema"] == SCHEMA and stored["status"] == COMPLETE
            # A record made before a field existed does not have it.
            names = [part.name for part in fields(cls) if part.name in stored or part.default_factory is MISSING]
            return cls(**{name: _part(name, stored) for name in names}) if complete else None
        except (OSError, ValueError, KeyError, TypeError):
            return None


def finished_record(folder: Path, run_id: str) -> Record | None:
    """The record in a run folder, if it is of the run called `run_id`."""
    record = Record.read(folder / RECORD)
    return record if record is not None and record.run_id == run_id else None


_PARTS: Mapping[str, Callable[[Any], Any]] = {
    "demonstrations": lambda stored: Chosen(**stored),
    "prompt_fingerprint": lambda stored: {name: Literal(**literal) for name, literal in stored.items()},
    "answers": lambda stored: Answers(**stored),
    "metric": Metric.of,
    "other_metrics": lambda stored: [Metric.of(metric) for metric in stored],
    "context": lambda stored: ContextSize(**stored),
    "js": lambda stored: Divergence(**stored),
    "seconds": lambda stored: Seconds(**stored),
}


def _part(name: str, stored: Mapping[str, Any]) -> Any:
    return _PARTS[name](stored[name]) if name in _PARTS else stored[name]
