"""From Hydra's configuration to the names of `experiments.records.names`.

Importing this module registers the resolvers that conf/ names run folders with.
"""

from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Any

from omegaconf import DictConfig, OmegaConf

from experiments.records import names

_METHODS = Path(__file__).parents[2] / "conf" / "method"
_AXES = ("importance", "allocation")
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
    # Options that do not count are not resolved: some name the run's folder, which is named by this very name.
    return {str(key): _resolved(config[key]) for key in config if key not in names.NOT_IDENTITY}


def run_beside(method: str, *, _root_: DictConfig) -> str:
    """The name of the run of another method that has everything else in common with this one, shared options too."""
    other = OmegaConf.masked_copy(_root_, [str(key) for key in _root_ if key != "hydra"])
    node = _method_node(method)
    if "budget" in (node.get("allocation") or {}):
        raise ValueError(f"a run can be matched to a method without a budget, such as emloc, not to {method}")
    shared = {
        key: value
        for key, value in _root_.method.items_ex(resolve=False)
        if key in node and key not in ("_target_", *_AXES)
    }
    other.method = OmegaConf.merge(node, shared)
    return run_name(other)


def _method_node(method: str) -> DictConfig:
    """The options of a method as its YAML has them, with the importance and the allocation that it names."""
    body = OmegaConf.load(_METHODS / f"{method}.yaml")
    assert isinstance(body, DictConfig)
    chosen = [entry for entry in body.pop("defaults", []) if isinstance(entry, DictConfig)]
    parts = {
        str(axis): OmegaConf.load(_METHODS / str(axis) / f"{choice}.yaml")
        for entry in chosen
        for axis, choice in entry.items()
        if choice is not None
    }
    merged = OmegaConf.merge(parts, body)
    assert isinstance(merged, DictConfig)
    return merged


def sweep_name(overrides: Sequence[str]) -> str:
    """The sweep's own overrides, so that the same sweep has the same folder."""
    name = "__".join(names.safe(override) for override in sorted(overrides)) or "default"
    return name if len(name) <= _LONGEST else f"{name[:_LONGEST]}-{names.digest(list(overrides))}"


def _resolved(value: Any) -> Any:
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value


def _path_name(path: str) -> str:
    return PurePath(path).name or "model"


def _run_name(*, _root_: DictConfig) -> str:
    return run_name(_root_)


OmegaConf.register_new_resolver("run_name", _run_name, replace=True)
OmegaConf.register_new_resolver("run_beside", run_beside, replace=True)
OmegaConf.register_new_resolver("path_name", _path_name, replace=True)
# Cached: a job of a sweep sees its own overrides only, and must find the folder of the whole sweep.
OmegaConf.register_new_resolver("sweep_name", sweep_name, replace=True, use_cache=True)
