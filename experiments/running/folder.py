"""A run's folder: whose it is, what is in it, and how a run takes it over without mixing two configurations."""

import fcntl
import json
import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from omegaconf import DictConfig, OmegaConf

from emloc.errors import UserError
from experiments.records.files import CLAIM, KEPT, LOG, MEMORY, PREDICTIONS, RECORD, RESULTS, write_atomically
from experiments.records.names import flat
from experiments.records.schema import Record, finished_record

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunFolder:
    """The folder of the run called `run_id`, whose result depends on `identity`."""

    path: Path
    run_id: str
    identity: Mapping[str, Any]

    @property
    def record(self) -> Path:
        """Written last; there means done."""
        return self.path / RECORD

    @property
    def predictions(self) -> Path:
        """One line per answered query."""
        return self.path / PREDICTIONS

    @property
    def memory(self) -> Path:
        """The compressed memory, where it was asked for."""
        return self.path / MEMORY

    @property
    def kept(self) -> Path:
        """Which tokens were kept, where it was asked for."""
        return self.path / KEPT

    def finished(self) -> Record | None:
        """This very run's record, if it is done."""
        return finished_record(self.path, self.run_id)

    @property
    def claimed(self) -> bool:
        """Whether this very run has begun here."""
        return self._read_claim().get("run_id") == self.run_id

    @property
    def _has_results(self) -> bool:
        return any((self.path / name).exists() for name in RESULTS)

    @property
    def _claim(self) -> Path:
        return self.path / CLAIM

    def check(self) -> None:
        """UserError if the folder holds results of another configuration."""
        if self._has_results and not self.claimed:
            other = _difference(self._read_claim().get("identity", {}), self.identity)
            raise UserError(
                f"Expected {self.path} to be new or to hold this very run, but it holds results of another "
                f"configuration ({other}); choose another hydra.run.dir=FOLDER, or force=true to replace them."
            )

    def check_inputs(self, inputs: Mapping[str, str]) -> None:
        """UserError if the run to be continued was begun with another model or other demonstrations."""
        before = self._read_claim().get("inputs", inputs)
        changed = [name for name in inputs if before.get(name) != inputs[name]]
        if self._has_results and changed:
            raise UserError(
                f"Expected to go on with the run in {self.path}, but {' and '.join(changed)} changed since it was "
                "begun; force=true begins it anew."
            )

    def claim(self, config: DictConfig, hydra: DictConfig, inputs: Mapping[str, str], *, anew: bool) -> None:
        """Make the folder this run's: the configuration goes to .hydra/, results are kept unless begun `anew`."""
        if anew:
            self._discard(RESULTS)
        self._claim.parent.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(config, self._claim.with_name("config.yaml"))
        OmegaConf.save(hydra, self._claim.with_name("hydra.yaml"))
        OmegaConf.save(hydra.overrides.task, self._claim.with_name("overrides.yaml"))
        claim = {"run_id": self.run_id, "identity": self.identity, "inputs": inputs}
        write_atomically(self._claim, json.dumps(claim, indent=2) + "\n")

    @contextmanager
    def log(self) -> Iterator[None]:
        """Write messages of this project to run.log within the block, alone: a second process waits for the first.

        If the block ends before the folder was claimed, the log goes again.
        """
        path = self.path / LOG
        fresh = not path.exists()
        with path.open("a", encoding="utf-8") as file, _logging_to(file):
            self._wait_for_others(file)
            try:
                yield
            finally:
                if fresh and not self._claim.exists():
                    self._discard([LOG])

    def _wait_for_others(self, log: TextIO) -> None:
        """Lock the log until it is closed; on a disk that knows no locks, go on without."""
        try:
            fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _LOG.info("Another process is working in %s; waiting for it to finish.", self.path)
            fcntl.flock(log, fcntl.LOCK_EX)
        except OSError as error:
            _LOG.warning("%s cannot be locked (%s): start no second process in it.", self.path, error.strerror)

    def _discard(self, names: Iterable[str]) -> None:
        for name in names:
            (self.path / name).unlink(missing_ok=True)

    def _read_claim(self) -> dict[str, Any]:
        try:
            return json.loads(self._claim.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}


@contextmanager
def _logging_to(file: TextIO) -> Iterator[None]:
    handler = logging.StreamHandler(file)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)


def _difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """The first option in which two configurations differ."""
    old, new = dict(flat(before)), dict(flat(now))
    differing = [key for key in new | old if old.get(key) != new.get(key)]
    if not old or not differing:
        return "which one is not known"
    return f"{differing[0]} was {old.get(differing[0])}, now {new.get(differing[0])}"
