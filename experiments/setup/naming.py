"""What a run is called: a readable name and a hash of everything that its result depends on.

Importing this module registers the resolvers that conf/ names run folders with.
"""

import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Any

from omegaconf import DictConfig, OmegaConf

# How a result is computed and where it goes, not what it is.
_HOW = {"hydra", "logger", "device", "batch_size", "force", "save_memory", "save_kept", "on_error"}
# These count through the method or the dataset that reads them: a method without a limit gives the same result, and
# has the same folder, at every delta.
_SHARED = {"chunk_size", "delta", "ratios", "budget", "demonstrations", "scoring"}
NOT_IDENTITY = frozenset(_HOW | _SHARED)
_METHODS = Path(__file__).parents[2] / "conf" / "method"
_LONGEST = 100  # characters of a sweep's name


def identity(config: DictConfig) -> dict[str, Any]:
    """The part of the configuration that a result depends on, resolved."""
    return {key: _resolved(config[key]) for key in sorted(map(str, config)) if key not in NOT_IDENTITY}


def plain(config: DictConfig) -> dict[str, Any]:
    """The configuration as plain, resolved values, without Hydra's own part."""
    return {str(key): _resolved(config[key]) for key in config if key != "hydra"}


def run_name(config: DictConfig) -> str:
    """`<method>-<dataset>-<model>-<shots>-<delta>-<hash>`; the delta of a method without one is "na"."""
    method, dataset = _module(config.method), _module(config.dataset)
    delta = config.method.get("delta", "na")
    shown = [method, dataset, config.model.name, config.shots, delta, _digest(identity(config))]
    return "-".join(_safe(part) for part in shown)


def run_beside(method: str, *, _root_: DictConfig) -> str:
    """The name of the run of another method that has everything else in common with this one, shared options too."""
    other = OmegaConf.masked_copy(_root_, [str(key) for key in _root_ if key != "hydra"])
    node = OmegaConf.load(_METHODS / f"{method}.yaml")
    if "budget" in node:
        raise ValueError(f"a run can be matched to a method without a budget, such as emloc, not to {method}")
    shared = {key: value for key, value in _root_.method.items_ex(resolve=False) if key in node and key != "_target_"}
    other.method = OmegaConf.merge(node, shared)
    return run_name(other)


def sweep_name(overrides: Sequence[str]) -> str:
    """The sweep's own overrides, so that the same sweep has the same folder."""
    name = "__".join(_safe(override) for override in sorted(overrides)) or "default"
    return name if len(name) <= _LONGEST else f"{name[:_LONGEST]}-{_digest(list(overrides))}"


def _resolved(value: Any) -> Any:
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:8]


def _module(node: DictConfig) -> str:
    """The file that a component is in, which is its name everywhere (`emloc.methods.snapkv.SnapKV`: snapkv)."""
    return str(node["_target_"]).split(".")[-2]


def _safe(part: object) -> str:
    return re.sub(r"[^\w.,=-]+", "_", str(part)).strip("_")


def _path_name(path: str) -> str:
    return PurePath(path).name or "model"


def _run_name(*, _root_: DictConfig) -> str:
    return run_name(_root_)


OmegaConf.register_new_resolver("run_name", _run_name, replace=True)
OmegaConf.register_new_resolver("run_beside", run_beside, replace=True)
OmegaConf.register_new_resolver("path_name", _path_name, replace=True)
# Cached: a job of a sweep sees its own overrides only, and must find the folder of the whole sweep.
OmegaConf.register_new_resolver("sweep_name", sweep_name, replace=True, use_cache=True)
