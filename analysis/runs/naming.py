"""What runs are called in tables and figures: their method, and those of its options in which runs differ.

There is no list of options here: what to show is read off the records, so that two settings are never taken for two
seeds of one.
"""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pandas as pd

from experiments.records.names import NEUTRAL, NO_DELTA, NOT_IDENTITY, RUN_NAME, SIMULATED, USUAL, component, flat

_METHOD = "method."
_STAGES = ("importance", "allocation", "refit")
# Columns of their own.
_AXES = frozenset({"seed", "shots", "method.allocation.delta", "model.name", "method._target_", "dataset._target_"})
_TARGET = "._target_"
_QUERIES = "limit"  # how many queries there are, which a column says for every run
_NULL = "null"
VARIANT = ["method", "importance"]  # what figures tell apart besides the values of options
_PARTS = ("method", "dataset", "model")
Options = Mapping[str, str]


def with_labels(runs: pd.DataFrame, records: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """`runs` with the column `label`, and with datasets and models of one name told apart by their options."""
    if runs.empty:
        return runs
    named = _labelled(runs, records, {})
    # Again, now that matched runs have names: budgets matched to different settings are different settings, too.
    return _labelled(runs, records, dict(zip(runs["run_id"], named["label"], strict=True)))


def _labelled(runs: pd.DataFrame, records: Mapping[str, Mapping[str, Any]], labels: Mapping[str, str]) -> pd.DataFrame:
    options = _complete([options_of(records[path], labels) for path in runs["path"]])
    dataset = _joined(runs["dataset"], _differing(runs["dataset"], _under("dataset.", options)))
    model = _joined(runs["model"], _differing(runs["model"], _under("model.", options)))
    names = [f"{method} (simulated)" if method in SIMULATED else method for method in runs["method"]]
    label = _joined(names, *_of_methods(list(runs["method"]), options))
    told = {*_PARTS, _QUERIES}
    rest = [{key: value for key, value in of.items() if key.split(".")[0] not in told} for of in options]
    label = _joined(label, _differing(list(zip(dataset, model, strict=True)), rest))
    return runs.assign(dataset=dataset, model=model, label=label)


def variant_names(rows: pd.DataFrame) -> dict[tuple[str, str], str]:
    """(method, importance) -> its name beside the others: the method alone if it has its usual importance only."""
    found = sorted(set(zip(rows["method"], rows["importance"], strict=True)))
    methods = [method for method, _ in found]
    return {
        (method, importance): f"{method} importance={importance}"
        if importance and (methods.count(method) > 1 or USUAL.get(method, {}).get("importance") != importance)
        else method
        for method, importance in found
    }


def options_of(record: Mapping[str, Any], labels: Mapping[str, str] = MappingProxyType({})) -> dict[str, str]:
    """All options that a result depends on besides seed, shots and delta, under their dotted names, as text.

    A stage of the method is under its own name, such as `method.importance`. labels: run_id -> what a run is called
    that a budget may be matched to.
    """
    found = {**dict(flat(record["config"])), "dtype": record["dtype"]}
    deciding = {
        name: value for name, value in found.items() if name.split(".")[0] not in NOT_IDENTITY and name not in _AXES
    }
    return dict(_option(name, value, labels) for name, value in deciding.items())


def stage(method: Mapping[str, Any], name: str) -> str:
    """The name of a stage of a method's configuration, such as its importance; empty if it has none."""
    return component(method[name]) if method.get(name) else ""


def _option(name: str, value: object, labels: Mapping[str, str]) -> tuple[str, str]:
    if name.endswith(_TARGET):
        return name.removesuffix(_TARGET), component({"_target_": value})
    return name, _text(value, labels)


def _complete(options: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    """The options with the neutral value of those that are null, or that runs of earlier versions do not have."""
    neutral = dict(_option(name, value, {}) for name, value in NEUTRAL.items())
    added = {name: value for name, value in neutral.items() if any(name in of for of in options)}
    return [{**of, **{name: value for name, value in added.items() if of.get(name, _NULL) == _NULL}} for of in options]


def _under(prefix: str, options: Sequence[Options]) -> list[dict[str, str]]:
    return [{key.removeprefix(prefix): value for key, value in of.items() if key.startswith(prefix)} for of in options]


def _of_methods(methods: Sequence[str], options: Sequence[Options]) -> list[list[dict[str, str]]]:
    """What tells the runs of a method apart: its own options and its stages, then the options of every stage.

    Runs are compared by a stage's options only if they have that stage in common. What another one is called tells
    them apart already.
    """
    own = _under(_METHOD, options)
    of_stages = [_under(f"{stage}.", own) for stage in _STAGES]
    whole = [
        {key: value for key, value in of.items() if key.split(".")[0] not in _STAGES or key in _STAGES} for of in own
    ]
    shown = [
        _ordered({**_unusual(method, of), **differing}, of)
        for method, of, differing in zip(methods, whole, _differing(methods, whole), strict=True)
    ]
    return [shown, *(_of_stage(stage, methods, own, of) for stage, of in zip(_STAGES, of_stages, strict=True))]


def _of_stage(
    stage: str, methods: Sequence[str], own: Sequence[Options], options: Sequence[Options]
) -> list[dict[str, str]]:
    groups = [(method, of.get(stage)) for method, of in zip(methods, own, strict=True)]
    return [
        {_short(stage, key, of): value for key, value in differing.items()}
        for of, differing in zip(own, _differing(groups, options), strict=True)
    ]


def _short(stage: str, key: str, own: Options) -> str:
    """The option without its stage, unless the method has another of that name."""
    others = [f"{other}.{key}" for other in _STAGES if other != stage]
    return f"{stage}.{key}" if any(name in own for name in (key, *others)) else key


def _unusual(method: str, own: Options) -> dict[str, str]:
    """The stages that are not those which the method's name promises."""
    usual = USUAL.get(method, {})
    return {stage: own[stage] for stage in usual if own.get(stage, usual[stage]) != usual[stage]}


def _ordered(options: Options, order: Options) -> dict[str, str]:
    return {key: options[key] for key in [*order, *options] if key in options}


def _joined(names: Sequence[str], *options: Sequence[Options]) -> list[str]:
    return [
        " ".join([name, *(f"{key}={value}" for of in every for key, value in of.items())])
        for name, *every in zip(names, *options, strict=True)
    ]


def _differing(groups: Sequence[object], options: Sequence[Options]) -> list[dict[str, str]]:
    """Per run the options in which runs of its group differ. An option that a run does not have is null."""
    keys = dict.fromkeys(key for of in options for key in of)
    values: dict[tuple[object, str], set[str]] = defaultdict(set)
    for group, of in zip(groups, options, strict=True):
        for key in keys:
            values[group, key].add(of.get(key, _NULL))
    return [
        {key: of.get(key, _NULL) for key in keys if len(values[group, key]) > 1}
        for group, of in zip(groups, options, strict=True)
    ]


def _text(value: object, labels: Mapping[str, str]) -> str:
    if isinstance(value, str):
        return _matched(value, labels) if value.startswith("match:") else value
    return format(value, "g") if isinstance(value, float) else json.dumps(value, separators=(",", ":"))


def _matched(value: str, labels: Mapping[str, str]) -> str:
    """`match:RUN` by the setting of the run: the same for every seed, although RUN differs."""
    run = value.removeprefix("match:")
    named = RUN_NAME.fullmatch(run)
    if named:
        return _as_long_as(labels.get(run, named["method"]), "" if named["delta"] == NO_DELTA else named["delta"])
    try:
        other = json.loads(Path(run).read_text(encoding="utf-8"))
        delta = other["js"]["delta"]
        method = labels.get(other["run_id"], component(other["config"]["method"]))
        return _as_long_as(method, "" if delta is None else f"{delta:g}")
    except (OSError, ValueError, KeyError, TypeError):
        return value


def _as_long_as(method: str, delta: str) -> str:
    return f"that of {method}" + (f" (delta {delta})" if delta else "")
