"""Where else a finished run is reported, besides its folder."""

import csv
import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol, runtime_checkable

from hydra.types import RunMode
from omegaconf import DictConfig

from emloc.errors import UserError
from emloc.options import Range, Text, check_options
from experiments.records.files import RECORD
from experiments.records.layers import COLUMNS
from experiments.records.schema import Record

_LOG = logging.getLogger(__name__)


@runtime_checkable
class Logger(Protocol):
    """Something that is told of every run once its record is written; it must not fail."""

    def log(self, record: Record, folder: Path, *, group: str | None) -> None:
        """Report the run in `folder`; `group` is the sweep that it is part of, if any."""


@dataclass(frozen=True, kw_only=True)
class NoLogger:
    """Nothing is reported."""

    def log(self, record: Record, folder: Path, *, group: str | None) -> None:
        """Do nothing."""


@dataclass(frozen=True, kw_only=True)
class Wandb:
    """Weights & Biases: configuration, metrics, layers.csv as a table, layers.png, and the record as an artifact.

    Parameters
    ----------
    project, entity
        Where the run goes.
    mode
        `online`, `offline`, or None: as the environment says.
    timeout
        Seconds to wait for the server at the start.
    """

    project: Text = "emloc"
    entity: Text | None = None
    mode: Literal["online", "offline"] | None = None
    timeout: Annotated[float, Range(0, above=True, note="seconds")] = 30.0

    def __post_init__(self) -> None:
        check_options(self)
        if find_spec("wandb") is None:
            raise UserError(
                "Expected wandb to be installed for logger=wandb, but it is not; pip install 'emloc[wandb]'."
            )

    def log(self, record: Record, folder: Path, *, group: str | None) -> None:
        """Report the run; whatever goes wrong becomes a warning, as its results are in its folder already."""
        try:
            self._log(record, folder, group)
        except Exception as error:  # of many types: of wandb's own, of its service process, of the disk, of the network
            reason = str(error).strip().partition("\n")[0]
            _LOG.warning("Weights & Biases was not told of this run (%s: %s).", type(error).__name__, reason)

    def _log(self, record: Record, folder: Path, group: str | None) -> None:
        import wandb

        settings = wandb.Settings(silent=True, console="off", init_timeout=self.timeout)
        with wandb.init(
            project=self.project, entity=self.entity, mode=self.mode, group=group, name=record.run_id,
            config=record.config, settings=settings,
        ) as run:  # fmt: skip
            run.log({**metrics(record), "layers": _table(folder / "layers.csv")})
            run.log({"layers_picture": wandb.Image(str(folder / "layers.png"))})
            artifact = wandb.Artifact(re.sub(r"[^\w.-]+", "_", record.run_id), type="record")
            artifact.add_file(str(folder / RECORD))
            run.log_artifact(artifact)


def sweep_of(hydra: DictConfig) -> str | None:
    """The name of the sweep that a job is part of; None for a single run."""
    return Path(hydra.sweep.dir).name if hydra.mode == RunMode.MULTIRUN else None


def metrics(record: Record) -> dict[str, float]:
    """The record's numbers under flat names; what is not known is left out."""
    context, js, seconds = record.context, record.js, record.seconds
    found = {
        **{metric.name: metric.value for metric in (record.metric, *record.other_metrics)},
        "stderr": record.metric.stderr,
        "tokens_full": context.tokens_full,
        "tokens_kept_mean": context.tokens_kept_mean,
        "compression": context.compression,
        "js_max": max(js.final_per_chunk, default=None),
        "js_heldout": js.heldout_mean,
        "agreement": js.agreement,
        "seconds_load": seconds.load,
        "seconds_compress": seconds.compress,
        "seconds_query": seconds.query,
        "queries_per_second": record.queries_per_second,
        "peak_memory_bytes": record.peak_memory_bytes,
        "layer_forwards": record.layer_forwards,
    }
    return {name: value for name, value in found.items() if value is not None}


def _table(path: Path) -> Any:
    """layers.csv as a wandb table."""
    import wandb

    with path.open(encoding="utf-8", newline="") as file:
        return wandb.Table(columns=list(COLUMNS), data=list(_cells(csv.reader(file))))


def _cells(rows: Iterator[list[str]]) -> Iterator[list[float | str | None]]:
    """The rows after the header; all columns but the last, the candidates, are numbers or empty."""
    next(rows)
    for row in rows:
        yield [*(float(cell) if cell else None for cell in row[:-1]), row[-1]]
