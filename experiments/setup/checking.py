"""What the configuration alone tells: everything that can be refused before torch is imported and data is read."""

from hydra.types import RunMode
from omegaconf import DictConfig

from emloc.errors import UserError
from experiments.setup.nodes import check_outline
from experiments.setup.settings import ModelOptions, Settings
from experiments.setup.unread import check_known, check_run


def check(config: DictConfig, hydra: DictConfig) -> None:
    """Refuse bad input, cheap things first; the options of components are checked where they are built.

    Raises
    ------
    UserError
        For the first thing that is wrong.
    """
    single = hydra.mode != RunMode.MULTIRUN
    if single:
        check_place("hydra.run.dir", hydra.run.dir)
    check_outline(config)
    check_known(config, hydra)
    Settings.of(config)
    ModelOptions.of(config)
    if single:  # the sweeper has looked at all jobs of a sweep together
        check_run(config, hydra)


def check_place(option: str, folder: str | None) -> None:
    """UserError if a folder has no name: Hydra takes that for the current folder, and fills it with results."""
    if not str(folder or "").strip():
        got = "null" if folder is None else repr(folder)
        raise UserError(f"Expected {option} to name a folder, but got {got}; leave it out for one named after the run.")
