"""Hydra's sweeper `grid`: every combination of the swept options, with an account of the sweep at its end.

Hydra finds sweepers in the namespace package `hydra_plugins` only, hence the folder. Differs from Hydra's `basic` in
three ways: a last line says how the jobs ended, even if some failed; the jobs of a sweep can be staged; and an option
that no job reads is refused.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn, JobStatus
from omegaconf import DictConfig, OmegaConf

from experiments.records.files import RECORD
from experiments.setup.checking import check_place
from experiments.setup.unread import check_sweep

Job = Sequence[str]  # its overrides


class Grid(BasicSweeper):
    """Runs all jobs, however many fail, and raises the first failure at the end.

    Parameters
    ----------
    params
        Options and what to sweep them over; the same option on the command line replaces the one here.
    staged
        Finish all jobs with one value of the first option before those with the next one begin, for options of which
        a later value needs the results of an earlier one. Launchers still run the jobs of a stage side by side.
    """

    def __init__(self, params: dict[str, str] | None = None, staged: bool = False) -> None:
        super().__init__(max_batch_size=None, params=params)
        self.staged = staged

    def sweep(self, arguments: list[str]) -> Any:
        """Launch the jobs and print the account; returns what they returned."""
        assert self.config is not None
        assert self.launcher is not None
        check_place("hydra.sweep.dir", self.config.hydra.sweep.dir)
        jobs = self._jobs(arguments)
        account = Account(_prepared(self.config), len(jobs))
        try:
            for stage in self._stages(jobs):
                account.add(self.launcher.launch(stage, initial_job_idx=len(account.results)))
        finally:
            print(f"\n{account.line()}", flush=True)
        return [result.return_value for result in account.results]

    def _jobs(self, arguments: list[str]) -> list[Job]:
        """All combinations, checked before the first of them runs: each composes, and every option has an effect."""
        assert self.hydra_context is not None
        assert self.config is not None
        loader = self.hydra_context.config_loader
        parser = OverridesParser.create(config_loader=loader)
        (jobs,) = self.split_arguments(parser.parse_overrides([*self._parse_config(), *arguments]), None)
        check_sweep([loader.load_sweep_config(self.config, [*job]) for job in jobs])
        return list(jobs)

    def _stages(self, jobs: Sequence[Job]) -> Iterator[list[Job]]:
        # The first option varies slowest, so that the jobs with one value of it are neighbours.
        for _, stage in groupby(jobs, key=lambda job: job[0] if self.staged else None):
            yield list(stage)


class Account:
    """How the `jobs` jobs of the sweep in `folder` ended."""

    def __init__(self, folder: Path, jobs: int) -> None:
        self.results: list[JobReturn] = []
        self._folder = folder
        self._jobs = jobs
        self._before = {path.resolve(): _written(path) for path in folder.glob(f"*/{RECORD}")}

    def add(self, results: Sequence[JobReturn]) -> None:
        """Take the results of a stage in."""
        self.results.extend(results)

    def line(self) -> str:
        """`3 done, 1 failed, 2 skipped (finished before): FOLDER`."""
        failed = sum(result.status == JobStatus.FAILED for result in self.results)
        skipped = self._skipped()
        done, left = len(self.results) - failed - skipped, self._jobs - len(self.results)
        parts = [f"{done} done", f"{failed} failed", f"{skipped} skipped (finished before)"]
        return f"{', '.join([*parts, *([f'{left} without result'] if left else [])])}: {self._folder}"

    def _skipped(self) -> int:
        """How many jobs found the record of an earlier sweep, or of an earlier job of this one, and left it alone.

        Jobs coincide where they differ in an option that one of the methods does not read.
        """
        found = dict(self._before)
        count = 0
        for result in self.results:
            if result.status == JobStatus.FAILED or result.hydra_cfg is None:
                continue
            record = Path(result.hydra_cfg.hydra.runtime.output_dir, RECORD).resolve()
            count += record in found and found[record] == _written(record)
            found[record] = _written(record)
        return count


def _written(path: Path) -> int | None:
    return path.stat().st_mtime_ns if path.exists() else None


def _prepared(config: DictConfig) -> Path:
    """The sweep's folder, with the sweep's configuration in it."""
    folder = Path(config.hydra.sweep.dir)
    folder.mkdir(parents=True, exist_ok=True)
    OmegaConf.save(config, folder / "multirun.yaml")
    return folder
