"""From Hydra's configuration to the names of `experiments.records.names`.

Importing this module registers the resolvers that conf/ names run folders with.
"""

from collections.abc import Sequence
from pathlib import PurePath
from typing import Any, cast

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from emloc.errors import UserError
from experiments.records import names
from experiments.setup.choices import load
from experiments.setup.nodes import check_outline

_AXES = ("importance", "allocation", "refit")
_LONGEST = 100  # characters of a sweep's name


def plain(config: DictConfig) -> dict[str, Any]:
    """The configuration as plain, resolved values, without Hydra's own part."""
    return {str(key): _resolved(config[key]) for key in config if key != "hydra"}


def identity(config: DictConfig) -> dict[str, Any]:
    """The part of the configuration that a result depends on, resolved; see `names.identity`."""
    return names.identity(_identifying(config))


def run_name(config: DictConfig) -> str:
    """See `names.run_name`."""
    return names.run_name(_identifying(config))


def _identifying(config: DictConfig) -> dict[str, Any]:
    check_outline(config)
    # Options that do not count are not resolved: some name the run's folder, which is named by this very name.
    return {str(key): _resolved(config[key]) for key in config if key not in names.NOT_IDENTITY}


def run_beside(method: str, *, _root_: DictConfig) -> str:
    """The name of the run of another method that has everything else in common with this one, shared options too.

    Raises
    ------
    UserError
        If there is no such method, or it has a budget itself.
    """
    node = load("method", method)
    if "budget" in names.spends(node):
        raise UserError(f"Expected run_beside to name a method without a budget, such as emloc, but got {method}.")
    other = OmegaConf.masked_copy(_root_, [str(key) for key in _root_ if key != "hydra"])
    shared = {
        key: value
        for key, value in _root_.method.items_ex(resolve=False)
        if key in node and key not in ("_target_", *_AXES)
    }
    if _is_chosen("method/importance", _root_) and _root_.method.importance is not None:
        # The command line gives it to every method of a sweep, so the run beside this one has it too. It replaces the
        # method's own as a whole: merged, it would keep options that only the other one has.
        shared["importance"] = _root_.method.importance
    kept = OmegaConf.masked_copy(node, [str(key) for key in node if key not in shared])
    other.method = OmegaConf.merge(kept, shared)
    return run_name(other)


def _is_chosen(group: str, root: DictConfig) -> bool:
    """Whether the command line of this job names a choice of the group."""
    # A job is given its configuration without Hydra's own part; Hydra keeps that for the time of the job.
    if "hydra" not in root and not HydraConfig.initialized():
        return False
    hydra = root.hydra if "hydra" in root else cast(DictConfig, HydraConfig.get())
    return any(given.lstrip("+").startswith(f"{group}=") for given in overrides(hydra))


def overrides(hydra: DictConfig) -> list[str]:
    """The command line of a job as it was written: one that names the run beside it must not be resolved here."""
    given = OmegaConf.to_container(hydra.overrides.task, resolve=False)
    assert isinstance(given, list)
    return [str(override) for override in given]


def sweep_name(overrides: Sequence[str]) -> str:
    """The sweep's own overrides, so that the same sweep has the same folder."""
    name = "__".join(names.safe(override) for override in sorted(overrides)) or "default"
    return name if len(name) <= _LONGEST else f"{name[:_LONGEST]}-{names.digest(list(overrides))}"


def _resolved(value: Any) -> Any:
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value


def _path_name(path: object) -> str:
    # A path that is none gets a name all the same: what is wrong with it is said where options are checked.
    return PurePath(str(path)).name or "model"


def _run_name(*, _root_: DictConfig) -> str:
    return run_name(_root_)


OmegaConf.register_new_resolver("run_name", _run_name, replace=True)
OmegaConf.register_new_resolver("run_beside", run_beside, replace=True)
OmegaConf.register_new_resolver("path_name", _path_name, replace=True)
# Cached: a job of a sweep sees its own overrides only, and must find the folder of the whole sweep.
OmegaConf.register_new_resolver("sweep_name", sweep_name, replace=True, use_cache=True)
