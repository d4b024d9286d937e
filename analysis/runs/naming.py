"""What runs are called in tables and figures: their method, and those of its options in which runs differ.

No list of methods or options is kept here: what to show is read off the records, so that two settings are never
taken for two seeds of one.
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

# Options that say how a result is computed or where it goes, not what it is; a test compares them with the runner's.
NOT_RESULT = frozenset(
    {
        "hydra", "logger", "device", "batch_size", "force", "save_memory", "save_kept", "on_error",
        "chunk_size", "delta", "ratios", "budget", "demonstrations", "scoring",
    }
)  # fmt: skip
# A run's name, <method>-<dataset>-<model>-<shots>-<delta>-<hash>: its method and its limit.
_RUN_NAME = re.compile(r"match:([^-/]+)-.+-\d+-(na|[\d.]+(?:e-\d+)?)-[0-9a-f]{8}")
# Columns of their own.
_AXES = frozenset({"seed", "shots", "method.delta", "model.name", "method._target_", "dataset._target_"})
_PARTS = ("method", "dataset", "model")


def component(node: Mapping[str, Any]) -> str:
    """The name of a component: the file that its class is in."""
    return node["_target_"].split(".")[-2]


def with_labels(runs: pd.DataFrame, records: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """`runs` with the column `label`, and with datasets and models of one name told apart by their options."""
    if runs.empty:
        return runs
    options = [options_of(records[path]) for path in runs["path"]]
    dataset = _named(runs["dataset"], options, "dataset.")
    model = _named(runs["model"], options, "model.")
    label = _named(runs["method"], options, "method.")
    rest = _differing(list(zip(dataset, model, strict=True)), options, "")
    label = [_joined(name, more) for name, more in zip(label, rest, strict=True)]
    return runs.assign(dataset=dataset, model=model, label=label)


def options_of(record: Mapping[str, Any]) -> dict[str, str]:
    """All options that a result depends on besides seed, shots and delta, under their dotted names, as text."""
    flat = {**dict(_flat(record["config"])), "dtype": record["dtype"]}
    return {
        name: _text(value) for name, value in flat.items() if name.split(".")[0] not in NOT_RESULT and name not in _AXES
    }


def _named(names: Sequence[str], options: Sequence[Mapping[str, str]], prefix: str) -> list[str]:
    return [_joined(name, more) for name, more in zip(names, _differing(names, options, prefix), strict=True)]


def _joined(name: str, options: Mapping[str, str]) -> str:
    return " ".join([name, *(f"{key}={value}" for key, value in options.items())])


def _differing(groups: Sequence[object], options: Sequence[Mapping[str, str]], prefix: str) -> list[dict[str, str]]:
    """Per run the options under `prefix` ("": those of no component) in which runs of its group differ."""
    mine = [{key.removeprefix(prefix): value for key, value in of.items() if _owns(prefix, key)} for of in options]
    values: dict[tuple[object, str], set[str | None]] = defaultdict(set)
    keys = {key for of in mine for key in of}
    for group, of in zip(groups, mine, strict=True):
        for key in keys:
            values[group, key].add(of.get(key))
    return [
        {key: value for key, value in of.items() if len(values[group, key]) > 1}
        for group, of in zip(groups, mine, strict=True)
    ]


def _owns(prefix: str, key: str) -> bool:
    return key.startswith(prefix) if prefix else key.split(".")[0] not in _PARTS


def _flat(node: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for key, value in node.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _text(value: object) -> str:
    if isinstance(value, str):
        return _matched(value) if value.startswith("match:") else value
    return format(value, "g") if isinstance(value, float) else json.dumps(value, separators=(",", ":"))


def _matched(value: str) -> str:
    """`match:RUN` by the setting of the run so called or so placed: the same for every seed, where RUN differs."""
    named = _RUN_NAME.fullmatch(value)
    if named:
        return f"match:{named[1]}" + ("" if named[2] == "na" else f",{named[2]}")
    try:
        other = json.loads(Path(value.removeprefix("match:")).read_text(encoding="utf-8"))
        delta = other["js"]["delta"]
        return f"match:{component(other['config']['method'])}" + ("" if delta is None else f",{delta:g}")
    except (OSError, ValueError, KeyError, TypeError):
        return value
