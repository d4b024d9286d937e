"""Options without effect: what a command line gives, but nothing in the run reads, is refused.

It is found in the configuration before interpolations are resolved. One of the shared options of conf/config.yaml is
read if a component passes it on, as `delta: ${delta}` does. A choice such as method/importance=window is read unless
the method sets it to null. Everything else is an option of a component, which reads all that it has.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from emloc.errors import UserError
from experiments.records.names import flat
from experiments.setup.choices import GROUPS, choices, known_options, load, parts
from experiments.setup.naming import overrides
from experiments.setup.nodes import check_outline
from experiments.setup.settings import Settings
from experiments.setup.spellings import unknown_option

_NAMES = re.compile(r"\$\{\s*\.*(\w+)")  # the first part of what an interpolation names, or a resolver
_BESIDE = re.compile(r"\$\{\s*run_beside:(\w+)")
_READ_BY_RUNNER = frozenset(field.name for field in fields(Settings)) | frozenset(GROUPS)
_SIZE, _SIZED_BY = "dataset.visual_tokens", "model.visual_tokens"


def check_known(config: DictConfig, hydra: DictConfig) -> None:
    """UserError if the configuration has an option at its top that does not exist, wherever it was written."""
    known = known_options() | _READ_BY_RUNNER
    others = [str(key) for key in config if key not in known and key != "hydra"]
    # Options of the user's own are fine where something uses them; that may be the definition of a sweep.
    used = _read(config) | set(_interpolated(OmegaConf.to_container(hydra))) if others else set()
    for option in others:
        if option not in used:
            raise UserError(unknown_option("", option, known))


def check_run(config: DictConfig, hydra: DictConfig) -> None:
    """UserError if a single run is given an option that nothing in it reads, or the definition of a sweep."""
    if hydra.sweeper.get("params"):
        sweep = " ".join(text for text in overrides(hydra) if text.startswith("+experiment="))
        raise UserError(
            f"Expected -m for a sweep, but got {sweep or 'hydra.sweeper.params'} without it; "
            f"write python run.py -m {sweep or '...'}"
        )
    _refuse([_Job(config, hydra)], "this run")


def check_sweep(jobs: Sequence[DictConfig]) -> None:
    """UserError if a job of a sweep has an unknown option, or none of them reads one that the sweep is given."""
    for job in jobs:
        check_outline(job)
        check_known(job, job.hydra)
    _refuse([_Job(job, job.hydra) for job in jobs], "a job of this sweep")


class _Job:
    """The composed configuration of a job, with Hydra's part of it."""

    def __init__(self, config: DictConfig, hydra: DictConfig) -> None:
        self.config = config
        self.chosen: Mapping[str, str] = hydra.runtime.choices
        self.given = dict(_given(overrides(hydra)))  # option -> how the user gives it, such as `delta=0.02`
        self.unread = [option for option in self.given if not self._reads(option)]

    def _reads(self, option: str) -> bool:
        if option == _SIZE:
            return OmegaConf.select(self.config, _SIZED_BY) == "dataset"
        if "/" in option:
            node = OmegaConf.select(self.config, option.partition("/")[0])
            return node is None or node.get(option.rpartition("/")[2]) is not None
        return option not in known_options() - _READ_BY_RUNNER or option in _read(self.config)


def _given(arguments: Iterable[str]) -> Iterator[tuple[str, str]]:
    """The options on a command line, without those of Hydra and those that are removed."""
    for override in OverridesParser.create().parse_overrides([*arguments]):
        if not override.is_delete() and not override.key_or_group.startswith("hydra"):
            yield override.key_or_group, str(override.input_line).lstrip("+")


def _read(config: DictConfig) -> set[str]:
    """The options at the top that something reads: the runner, or through an interpolation one that is read."""
    raw = OmegaConf.to_container(config, resolve=False)
    assert isinstance(raw, dict)
    found, todo = set[str](), [option for option in raw if option in _READ_BY_RUNNER]
    while todo:
        option = todo.pop()
        found.add(option)
        todo += [name for name in _interpolated(raw[option]) if name in raw and name not in found]
    return found


def _interpolated(value: Any) -> Iterator[str]:
    """What a node, not resolved, takes from elsewhere."""
    if isinstance(value, Mapping):
        value = [*value.values()]
    if isinstance(value, list):
        for item in value:
            yield from _interpolated(item)
    if isinstance(value, str):
        yield from _NAMES.findall(value)
        for method in _BESIDE.findall(value):  # the name of that run depends on what its method reads
            yield from _interpolated(_options("method", method))


def _options(group: str, choice: str) -> dict[str, Any]:
    options = OmegaConf.to_container(load(group, choice), resolve=False)
    assert isinstance(options, dict)
    return {str(key): value for key, value in options.items()}


def _refuse(jobs: Sequence[_Job], what: str) -> None:
    for option in jobs[0].unread if jobs else []:
        if all(option in job.unread for job in jobs):
            raise UserError(f"Expected an option that {what} reads, but {_reason(option, jobs)}.")


def _reason(option: str, jobs: Sequence[_Job]) -> str:
    """Why nothing reads the option, and what would."""
    shown = option if len(jobs) > 1 else jobs[0].given[option]
    group, readers = _readers(option)
    own = _namesake(option, group, jobs[0])
    if own in jobs[0].given:
        return f"nothing reads {shown}, as {own} is given too; leave one of them out"
    chosen = ",".join(dict.fromkeys(job.chosen[group] for job in jobs))
    instead = f", which has its own {own}" if own else ""
    return f"nothing reads {shown} with {group}={chosen}{instead}; {option} is read by {readers}"


def _readers(option: str) -> tuple[str, str]:
    """The group of the choices in conf/ that read the option, and these choices as the user writes them."""
    if option == _SIZE:
        models = _choosing("model", lambda node: node["visual_tokens"] == "dataset")
        return "model", f"{models} (and {_SIZED_BY}=dataset)"
    if "/" in option:
        group, _, part = option.rpartition("/")
        return group, _choosing(group, lambda node: node.get(part) is not None)
    for group in GROUPS:
        whole, *inner = (_choosing(part, lambda node: option in _interpolated(node)) for part in (group, *parts(group)))
        if whole:
            return group, f"{whole} (and {', '.join(filter(None, inner))})" if any(inner) else whole
    raise AssertionError(f"no choice of conf/ reads {option}: it should not be in conf/config.yaml")


def _choosing(group: str, reads: Callable[[dict[str, Any]], bool]) -> str:
    """`method=emloc,none`: the choices of a group whose options satisfy `reads`; empty if there are none."""
    found = [choice for choice in choices(group) if reads(_options(group, choice))]
    return f"{group}={','.join(found)}" if found else ""


def _namesake(option: str, group: str, job: _Job) -> str:
    """The option of the same name that a component has itself, such as method.allocation.delta; empty if none has."""
    node = OmegaConf.to_container(job.config[group], resolve=False)
    assert isinstance(node, dict)
    names = (name for name, _ in flat({group: node}) if name.rpartition(".")[2] == option.rpartition(".")[2])
    return next(names, "")
