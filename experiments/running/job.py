"""The work of a run: load, compress, answer, record."""

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import transformers
from omegaconf import DictConfig

from emloc.backbones.base import Backbone
from emloc.memory import Memory
from emloc.methods.base import Method
from emloc.methods.none import NoPruning
from emloc.methods.trace import Trace
from emloc.rows import Row
from experiments.datasets.base import Dataset, Sample
from experiments.datasets.codewords import AnswerCode
from experiments.estimating.forecast import Wanted
from experiments.estimating.warning import looked_at
from experiments.records.files import LAYERS, PICTURE
from experiments.records.schema import COMPLETE, Record
from experiments.records.upgrade import SCHEMA
from experiments.running.assembly import (
    Outcome,
    answers,
    chosen,
    context_size,
    divergence,
    fingerprints,
    metrics,
    notes,
    seconds,
)
from experiments.running.evaluation import Answered, Evaluation, spread_out
from experiments.running.folder import RunFolder
from experiments.running.heldout import HeldOut, agreement, heldout_divergence
from experiments.running.images import Watched
from experiments.running.kept import write_kept
from experiments.running.layer_rows import write_layers
from experiments.running.loggers import Logger, sweep_of
from experiments.running.progress import progress
from experiments.running.provenance import git_state, peak_memory_bytes, versions
from experiments.setup.building import build, build_backbone
from experiments.setup.matching import located
from experiments.setup.naming import identity, plain, run_name
from experiments.setup.settings import Settings

_LOG = logging.getLogger(__name__)


def compute(config: DictConfig, hydra: DictConfig, path: Path) -> Record:
    """Do the run in the folder `path`, going on where an interrupted one stopped.

    Raises
    ------
    UserError
        For bad input. What is found before the first query leaves nothing in the folder; after that, answers stay.
    """
    folder = RunFolder(path, run_name(config), identity(config))
    job = Job.prepare(config, folder)
    with folder.log():
        return job.done_meanwhile() or job.run(config, hydra)


@dataclass(frozen=True, kw_only=True)
class Job:
    """Everything that a run needs, loaded and checked."""

    settings: Settings
    folder: RunFolder
    method: Method
    logger: Logger
    dataset: Dataset
    samples: Sequence[Sample]
    backbone: Backbone
    code: AnswerCode
    choices: Sequence[str]  # that the model picks its answers from; without any it writes them
    watched: Watched
    load_seconds: float

    @classmethod
    def prepare(cls, config: DictConfig, folder: RunFolder) -> "Job":
        """Check the configuration, cheap things first, and load the model and the data."""
        begin = time.perf_counter()
        settings = Settings.of(config)
        if not settings.force:
            folder.check()
        asked = looked_at(wanted(config, folder.path.parent))
        method, dataset, chosen = asked.method, asked.dataset, asked.chosen
        logger = build(config.logger, "logger", Logger)
        with _quiet_transformers():
            backbone = build_backbone(config.model, settings, dataset)
        code = AnswerCode.for_classes(dataset.classes, backbone.label_words, settings.seed)
        demonstrations = [dataset.solved(sample, code=code) for sample in chosen]
        return cls(
            settings=settings,
            folder=folder,
            method=method,
            logger=logger,
            dataset=dataset,
            samples=spread_out(dataset.samples(), settings.limit),
            backbone=backbone,
            code=code,
            choices=dataset.choices(code) if settings.answer == "rank" else (),
            watched=Watched(demonstrations, pictured=settings.save_kept),
            load_seconds=time.perf_counter() - begin,
        )

    @property
    def _given(self) -> int:
        """How many demonstrations the method was given to show."""
        return len(self.method.demonstrated(self.watched.demonstrations))

    def done_meanwhile(self) -> Record | None:
        """The record, if another process finished this very run while this one waited for it."""
        settings = self.settings
        if settings.force or settings.save_memory or settings.save_kept:
            return None
        record = self.folder.finished()
        return record if record and record.has_heldout(settings.heldout_js, layers=settings.heldout_layers) else None

    def run(self, config: DictConfig, hydra: DictConfig) -> Record:
        """Encode, compress, answer and record."""
        self._announce()
        # Encoding reads the images, and with that takes the digest of the demonstrations that `_inputs` compares.
        rows, encode_seconds = self._encode()
        inputs = self._inputs()
        anew = self.settings.force or not self.folder.claimed
        if not anew:
            self.folder.check_inputs(inputs)
        trace = self._compress(rows)
        # The folder changes hands only now: what goes wrong before this leaves an earlier run's files as they were.
        self.folder.claim(config, hydra, inputs, anew=anew)
        self._keep(trace)
        outcome = Outcome(
            trace=trace,
            answered=self._answer(trace.memory),
            heldout=self._heldout(rows, trace),
            load_seconds=self.load_seconds,
            encode_seconds=encode_seconds,
        )
        record = self._record(config, inputs, outcome)
        record.write(self.folder.record)
        self.logger.log(record, self.folder.path, group=sweep_of(hydra))
        return record

    def _inputs(self) -> dict[str, str]:
        """What an interrupted run must have in common with the one that continues it, besides the configuration."""
        return {
            "model": self.backbone.fingerprint,
            "demonstrations": self.watched.id(),
            "dtype": str(self.backbone.dtype).removeprefix("torch."),
        }

    def _announce(self) -> None:
        place = f"{self.backbone.device}, {str(self.backbone.dtype).removeprefix('torch.')}"
        _LOG.info("%s (%s, loaded in %.1f s)", self.folder.run_id, place, self.load_seconds)
        _LOG.info("attention: %s", ", ".join(self.backbone.attention_kernels))
        _LOG.info("%d demonstrations, %d queries", len(self.watched.demonstrations), len(self.samples))
        if self.code.words:
            _LOG.info("%d class names are not words of this model: code words stand for them", len(self.code.words))

    def _encode(self) -> tuple[list[Row], float]:
        """The demonstrations that the method uses, as rows, and the seconds that took."""
        begin = time.perf_counter()
        rows = self.backbone.encode(self.method.demonstrated(self.watched.demonstrations))
        return rows, time.perf_counter() - begin

    def _compress(self, rows: Sequence[Row]) -> Trace:
        with progress("compressing", unit="layer steps") as report:
            trace = self.method.trace_rows(self.backbone, rows, progress=report)
        memory, seconds = trace.memory, trace.deciding.seconds
        _LOG.info("%d tokens -> %.1f per layer in %.1f s", memory.tokens_seen, memory.mean_length, seconds)
        return trace

    def _keep(self, trace: Trace) -> None:
        """Write what is known once the context is compressed."""
        from experiments.pictures.layers import draw_layers  # matplotlib takes a second to import

        write_layers(self.folder.path / LAYERS, trace)
        draw_layers(self.folder.path / PICTURE, trace, delta=self.method.limit)
        if self.settings.save_memory:
            trace.memory.save(self.folder.memory)
        if self.settings.save_kept:
            write_kept(self.folder.kept, trace, self.watched, self.backbone)

    def _answer(self, memory: Memory) -> Answered:
        return self._evaluation(memory).run(self.samples, self.folder.predictions)

    def _evaluation(self, memory: Memory) -> Evaluation:
        return Evaluation(
            backbone=self.backbone,
            method=self.method,
            memory=memory,
            dataset=self.dataset,
            code=self.code,
            batch_size=self.settings.batch_size,
            choices=self.choices,
            skip=self.settings.on_error == "skip",
        )

    def _heldout(self, rows: Sequence[Row], trace: Trace) -> HeldOut | None:
        """This memory against the whole context, on queries; None if that is not asked for, or there is no context."""
        settings, memory = self.settings, trace.memory
        if not settings.heldout_js or not memory.tokens_seen:
            return None
        full = NoPruning(chunk_size=self.method.chunk_size).trace_rows(self.backbone, rows).memory
        queries = spread_out(self.dataset.samples(), settings.heldout_js)
        solved = self.backbone.encode([self.dataset.solved(sample, code=self.code) for sample in queries])
        size, layers = settings.batch_size, settings.heldout_layers
        js = heldout_divergence(self.backbone, solved, full, memory, batch_size=size, layers=layers)
        (total,) = heldout_divergence(self.backbone, rows, full, memory, batch_size=size, layers=False)
        answers = [
            [reply.text for at in range(0, len(queries), size) for reply in asked.replies(queries[at : at + size])]
            for asked in (self._evaluation(full), self._evaluation(memory))
        ]
        return HeldOut(len(queries), js[0], total, js if layers else None, agreement(*answers))

    def _record(self, config: DictConfig, inputs: Mapping[str, str], outcome: Outcome) -> Record:
        times = seconds(outcome)
        main, *others = metrics(self.dataset, self.samples, outcome.answered)
        return Record(
            schema=SCHEMA,
            status=COMPLETE,
            run_id=self.folder.run_id,
            config=plain(config),
            demonstrations_id=inputs["demonstrations"],
            demonstrations=chosen(self.dataset, self.watched.demonstrations),
            prompt_fingerprint=fingerprints(self.dataset),
            answers=answers(self.code),
            metric=main,
            other_metrics=others,
            skipped=outcome.answered.skipped,
            context=context_size(outcome.trace.memory, outcome.answered.own_contexts),
            js=divergence(outcome, self.method.limit),
            layer_forwards=outcome.trace.deciding.layer_forwards,
            measuring_forwards=outcome.trace.measuring.layer_forwards,
            seconds=times,
            queries_per_second=len(outcome.answered.predictions) / times.query,
            peak_memory_bytes=peak_memory_bytes(self.backbone.device),
            device=str(self.backbone.device),
            dtype=inputs["dtype"],
            versions=versions(),
            git=git_state(),
            baselines=self.dataset.baselines(self.samples),
            trained=asdict(outcome.trace.trained) if outcome.trace.trained else {},
            notes=notes(self.method, outcome, self.backbone.weights_origin, given=self._given),
        )


def wanted(config: DictConfig, place: Path) -> Wanted:
    """The run that the configuration describes, without its weights; `place` is the folder of the runs beside it."""
    settings = Settings.of(config)
    method = build(located(config.method, place), "method", Method)
    dataset = build(config.dataset, "dataset", Dataset)
    # Too many shots are known before the weights are read.
    return Wanted(config.model, settings, method, dataset, dataset.choose(settings.shots, settings.seed))


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    """No progress bars and load reports of transformers; what is wrong with a checkpoint comes as an exception."""
    voice = transformers.utils.logging
    verbosity, bars = voice.get_verbosity(), voice.is_progress_bar_enabled()
    voice.set_verbosity_error()
    if bars:
        voice.disable_progress_bar()
    try:
        yield
    finally:
        voice.set_verbosity(verbosity)
        if bars:
            voice.enable_progress_bar()
