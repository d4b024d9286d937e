"""The work of a run: load, compress, answer, record."""

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import transformers
from omegaconf import DictConfig

from emloc.backbones.base import Backbone
from emloc.memory import Memory
from emloc.methods.base import Compression, Method
from emloc.methods.none import NoPruning
from emloc.prompt import Demonstration
from experiments.datasets.base import Dataset, Sample
from experiments.datasets.codewords import AnswerCode
from experiments.records.record import COMPLETE, SCHEMA, Record, write_layers
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
from experiments.running.heldout import heldout_divergence
from experiments.running.kept import write_kept
from experiments.running.loggers import Logger, sweep_of
from experiments.running.progress import progress
from experiments.running.provenance import demonstrations_id, git_state, peak_memory_bytes, versions
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
        For bad input. What is found before the first query leaves no folder behind; after that, answers stay.
    """
    folder = RunFolder(path, run_name(config), identity(config))
    try:
        job = Job.prepare(config, folder)
        with folder.log():
            return job.done_meanwhile() or job.run(config, hydra)
    finally:
        folder.leave()


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
    demonstrations: Sequence[Demonstration]
    load_seconds: float

    @classmethod
    def prepare(cls, config: DictConfig, folder: RunFolder) -> "Job":
        """Check the configuration, cheap things first, and load the model and the data."""
        begin = time.perf_counter()
        settings = Settings.of(config)
        if not settings.force:
            folder.check()
        method = build(located(config.method, folder.path.parent), "the method")
        dataset, logger = build(config.dataset, "the dataset"), build(config.logger, "the logger")
        dataset.draw(settings.shots, settings.seed)  # too many shots are known before the weights are read
        with _quiet_transformers():
            backbone = build_backbone(config.model, settings, dataset)
        code = AnswerCode.for_classes(dataset.classes, backbone.label_words, settings.seed)
        return cls(
            settings=settings,
            folder=folder,
            method=method,
            logger=logger,
            dataset=dataset,
            samples=spread_out(dataset.samples(), settings.limit),
            backbone=backbone,
            code=code,
            demonstrations=dataset.draw(settings.shots, settings.seed, code=code),
            load_seconds=time.perf_counter() - begin,
        )

    def done_meanwhile(self) -> Record | None:
        """The record, if another process finished this very run while this one waited for it."""
        settings = self.settings
        return None if settings.force or settings.save_memory or settings.save_kept else self.folder.finished()

    def run(self, config: DictConfig, hydra: DictConfig) -> Record:
        """Compress, answer and record."""
        inputs = self._inputs()
        anew = self.settings.force or not self.folder.claimed
        if not anew:
            self.folder.check_inputs(inputs)
        self._announce()
        compression, layer_forwards, compress_seconds = self._compress()
        self.folder.claim(config, hydra, inputs, anew=anew)
        self._keep(compression)
        outcome = Outcome(
            compression=compression,
            answered=self._answer(compression.memory),
            heldout=self._heldout(compression.memory),
            layer_forwards=layer_forwards,
            load_seconds=self.load_seconds,
            compress_seconds=compress_seconds,
        )
        record = self._record(config, inputs, outcome)
        record.write(self.folder.record)
        self.logger.log(record, self.folder.path, group=sweep_of(hydra))
        return record

    def _inputs(self) -> dict[str, str]:
        """What an interrupted run must have in common with the one that continues it, besides the configuration."""
        return {
            "model": self.backbone.fingerprint,
            "demonstrations": demonstrations_id(self.demonstrations),
            "dtype": str(self.backbone.dtype).removeprefix("torch."),
        }

    def _announce(self) -> None:
        place = f"{self.backbone.device}, {str(self.backbone.dtype).removeprefix('torch.')}"
        _LOG.info("%s (%s, loaded in %.1f s)", self.folder.run_id, place, self.load_seconds)
        _LOG.info("%d demonstrations, %d queries", len(self.demonstrations), len(self.samples))
        if self.code.words:
            _LOG.info("%d class names are not words of this model: code words stand for them", len(self.code.words))

    def _compress(self) -> tuple[Compression, int, float]:
        """The compression, the layer forwards it took, and its seconds."""
        forwards, begin = self.backbone.layer_forwards, time.perf_counter()
        with progress("compressing", unit="layer steps") as report:
            compression = self.method.trace(self.backbone, self.demonstrations, progress=report)
        seconds = time.perf_counter() - begin
        memory = compression.memory
        _LOG.info("%d tokens -> %.1f per layer in %.1f s", memory.tokens_seen, memory.mean_length, seconds)
        return compression, self.backbone.layer_forwards - forwards, seconds

    def _keep(self, compression: Compression) -> None:
        """Write what is known once the context is compressed."""
        from experiments.running.picture import draw_layers  # matplotlib takes a second to import

        write_layers(self.folder.path / "layers.csv", compression)
        draw_layers(self.folder.path / "layers.png", compression, delta=self._delta)
        if self.settings.save_memory:
            compression.memory.save(self.folder.memory)
        if self.settings.save_kept:
            write_kept(self.folder.kept, compression, self.demonstrations, self.backbone)

    def _answer(self, memory: Memory) -> Answered:
        evaluation = Evaluation(
            backbone=self.backbone,
            method=self.method,
            memory=memory,
            dataset=self.dataset,
            code=self.code,
            batch_size=self.settings.batch_size,
            skip=self.settings.on_error == "skip",
        )
        return evaluation.run(self.samples, self.folder.predictions)

    def _heldout(self, memory: Memory) -> list[float]:
        """Divergence on queries between this memory and the whole context; nothing if not asked for, or no context."""
        if not self.settings.heldout_js or not memory.tokens_seen:
            return []
        full = NoPruning(chunk_size=self.method.chunk_size).compress(self.backbone, self.demonstrations)
        chosen = spread_out(self.dataset.samples(), self.settings.heldout_js)
        solved = [self.dataset.solved(sample, code=self.code) for sample in chosen]
        return heldout_divergence(self.backbone, solved, full, memory, batch_size=self.settings.batch_size)

    def _record(self, config: DictConfig, inputs: Mapping[str, str], outcome: Outcome) -> Record:
        times = seconds(outcome)
        main, *others = metrics(self.dataset, self.samples, outcome.answered)
        return Record(
            schema=SCHEMA,
            status=COMPLETE,
            run_id=self.folder.run_id,
            config=plain(config),
            demonstrations_id=inputs["demonstrations"],
            demonstrations=chosen(self.dataset, self.demonstrations),
            prompt_fingerprint=fingerprints(self.dataset),
            answers=answers(self.code),
            metric=main,
            other_metrics=others,
            skipped=outcome.answered.skipped,
            context=context_size(outcome.compression.memory, outcome.answered.own_contexts),
            js=divergence(outcome, self._delta),
            layer_forwards=outcome.layer_forwards,
            seconds=times,
            queries_per_second=len(outcome.answered.predictions) / times.query,
            peak_memory_bytes=peak_memory_bytes(self.backbone.device),
            device=str(self.backbone.device),
            dtype=inputs["dtype"],
            versions=versions(),
            git=git_state(),
            notes=notes(outcome),
        )

    @property
    def _delta(self) -> float | None:
        """The method's limit on the divergence, if it has one."""
        return getattr(self.method, "delta", None)


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
