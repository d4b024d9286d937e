"""Answering a dataset's queries on a memory: every answer is on disk as soon as it is given, none is given twice."""

import json
import logging
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from emloc.backbones.base import Backbone
from emloc.errors import UserError
from emloc.memory import Memory
from emloc.methods.base import Method
from emloc.methods.trace import OwnContext, Reply
from experiments.datasets.base import Dataset, Sample
from experiments.datasets.codewords import AnswerCode
from experiments.running.progress import progress

_LOG = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(frozen=True)
class Prediction:
    """One answered query.

    `prompt` is the text that was asked, `answer` the model's own, `prediction` what was scored of it (a class's name
    where a code word stands for it). `score` is by the dataset's first metric, None where answers are only scored
    together; `scores` is by all. `own` is the context that was condensed for this query alone, if there is one.
    `seconds` is the query's share of its batch's time.
    """

    id: str
    prompt: str
    target: str
    answer: str
    prediction: str
    score: float | None
    scores: Mapping[str, float]
    own: OwnContext | None
    seconds: float

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> "Prediction":
        """The prediction as it is stored in JSON."""
        own = stored["own"]
        return cls(**{**stored, "own": None if own is None else OwnContext(**own)})


@dataclass(frozen=True)
class Answered:
    """What became of all queries: an answer, or the reason why there is none (by the query's id)."""

    predictions: list[Prediction]
    skipped: dict[str, str]

    @property
    def own_contexts(self) -> list[OwnContext]:
        """The contexts that were condensed for single queries."""
        return [given.own for given in self.predictions if given.own is not None]


class PredictionFile:
    """predictions.jsonl: one line per answered query, readable at any time, also after the process was killed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, Prediction] = {}
        self._read()

    def __contains__(self, query_id: str) -> bool:
        return query_id in self._known

    def __getitem__(self, query_id: str) -> Prediction:
        return self._known[query_id]

    def append(self, predictions: Sequence[Prediction]) -> None:
        """Add answers, on disk before this returns."""
        with self._path.open("a", encoding="utf-8") as file:
            for prediction in predictions:
                self._known[prediction.id] = prediction
                file.write(json.dumps(asdict(prediction), ensure_ascii=False) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def _read(self) -> None:
        """Take the good beginning of the file in, and cut off what a killed process left behind it."""
        good = 0
        for line in self._path.read_bytes().splitlines(keepends=True) if self._path.exists() else []:
            prediction = _parse(line)
            if prediction is None:
                os.truncate(self._path, good)
                break
            good += len(line)
            self._known.setdefault(prediction.id, prediction)


def _parse(line: bytes) -> Prediction | None:
    try:
        return Prediction.of(json.loads(line)) if line.endswith(b"\n") else None
    except (ValueError, TypeError, KeyError):
        return None


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """How queries are asked: of which model, by which method and on what memory, and how answers are read and scored.

    `choices`: the answers that the model picks from by likelihood; without any it generates its answers. `skip`: pass
    over queries that cannot be asked, instead of raising their UserError.
    """

    backbone: Backbone
    method: Method
    memory: Memory
    dataset: Dataset
    code: AnswerCode
    batch_size: int
    choices: Sequence[str] = ()
    skip: bool = False

    def run(self, samples: Sequence[Sample], path: Path) -> Answered:
        """Answer the samples that the file at `path` has no answer of yet; all their predictions, in order.

        Raises
        ------
        UserError
            If a query cannot be asked, and is not to be skipped; or if none can be asked.
        """
        skipped: dict[str, str] = {}
        file = PredictionFile(path)
        left = [sample for sample in samples if sample.id not in file]
        done = len(samples) - len(left)
        if done:
            _LOG.info("%d of %d queries are answered already; going on with the others.", done, len(samples))
        with progress("queries", unit="queries", done=done) as report:
            for start in range(0, len(left), self.batch_size):
                batch = left[start : start + self.batch_size]
                self._answer_what_can_be(batch, file, skipped)
                report(done + start + len(batch), len(samples))
        if len(skipped) == len(samples):
            raise UserError(
                f"Expected queries that can be asked, but there is none; the first: {skipped[samples[0].id]}"
            )
        return Answered([file[sample.id] for sample in samples if sample.id not in skipped], skipped)

    def _answer_what_can_be(self, batch: Sequence[Sample], file: PredictionFile, skipped: dict[str, str]) -> None:
        """Answer a batch; where one of its queries cannot be asked, its others one by one."""
        try:
            file.append(self._answer(batch))
        except UserError as error:
            if len(batch) == 1:
                skipped[batch[0].id] = self._reason(batch[0], error)
                return
            for sample in batch:
                self._answer_what_can_be([sample], file, skipped)

    def _reason(self, sample: Sample, error: UserError) -> str:
        """Why the query is skipped; raises the error if it is not to be."""
        if not self.skip:
            raise UserError(f"{error} (With on_error=skip such queries are left out, and counted.)") from error
        _LOG.warning("Query %s is skipped: %s", sample.id, error)
        return str(error)

    def _answer(self, batch: Sequence[Sample]) -> list[Prediction]:
        begin = time.perf_counter()
        replies = self.replies(batch)
        seconds = (time.perf_counter() - begin) / len(batch)
        return [self._scored(sample, reply, seconds) for sample, reply in zip(batch, replies, strict=True)]

    def replies(self, samples: Sequence[Sample]) -> list[Reply]:
        """The model's answers to samples, in their order; nothing is written."""
        queries = [self.dataset.query(sample) for sample in samples]
        if self.choices:
            return self.method.choose(self.backbone, queries, self.choices, self.memory, batch_size=self.batch_size)
        return self.method.answer(
            self.backbone,
            queries,
            self.memory,
            max_new_tokens=self.dataset.max_new_tokens,
            batch_size=self.batch_size,
        )

    def _scored(self, sample: Sample, reply: Reply, seconds: float) -> Prediction:
        prediction = self.code.decode(self.dataset.read(reply.text))
        scores = self.dataset.score(prediction, sample)
        first = scores.get(self.dataset.metrics[0].name)
        return Prediction(
            id=sample.id,
            prompt=sample.question,
            target=sample.label,
            answer=reply.text,
            prediction=prediction,
            score=first,
            scores=scores,
            own=reply.own,
            seconds=seconds,
        )


def spread_out(samples: Sequence[T], limit: int | None) -> Sequence[T]:
    """`limit` samples, evenly spaced over all, so that data sorted by class still give many classes; None: all.

    The choice depends on the limit alone, never on a seed; a limit above the number of samples gives all of them.
    """
    if limit is None or limit >= len(samples):
        return samples
    return [samples[(2 * number + 1) * len(samples) // (2 * limit)] for number in range(limit)]
