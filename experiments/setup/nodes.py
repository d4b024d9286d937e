"""Nodes of the configuration: what they have to look like, and how the options of one become a checked dataclass."""

import re
from dataclasses import MISSING, Field, fields
from typing import Any, TypeVar

from omegaconf import DictConfig, OmegaConf

from emloc.errors import UserError
from emloc.options import OptionError
from experiments.setup.choices import GROUPS, choices, load, parts
from experiments.setup.spellings import unknown_option

TARGET = "_target_"
_SHARED = re.compile(r"\$\{(\w+)\}")  # an option that only passes one of conf/config.yaml on
_UNTARGETED = ("model",)  # its options are read by the runner; all other groups are classes
T = TypeVar("T")


def check_outline(config: DictConfig) -> None:
    """Refuse a configuration that lacks what a run is named after.

    Runs are named while Hydra composes, before any component is built, so this is the first look at the input.

    Raises
    ------
    UserError
        If a group is not what a file of conf/ describes, or an option that every run has was removed.
    """
    for group in GROUPS:
        _check_node(config.get(group) if group in config else None, group)
    for part in parts("method"):
        inner = config.method.get(part.rpartition("/")[2])
        if inner is not None:
            _check_node(inner, part)
    for option in ("shots", "model.name"):
        if option.rpartition(".")[2] not in (config.model if "." in option else config):
            raise UserError(missing(option))


def _check_node(node: Any, group: str) -> None:
    if not OmegaConf.is_dict(node):
        got = "null" if node is None else repr(node)
        raise UserError(f"Expected {group} to be one of {', '.join(choices(group))}, but got {got}.")
    if group not in _UNTARGETED and not is_class_path(node.get(TARGET)):
        raise wrong_target(node, group)


def is_class_path(target: Any) -> bool:
    """Whether a text could be the path of a class in a module."""
    return isinstance(target, str) and "." in target and all(part.isidentifier() for part in target.split("."))


def wrong_target(node: DictConfig, group: str) -> UserError:
    """The error for a `_target_` that names no class of its group."""
    name, target = f"{group.replace('/', '.')}.{TARGET}", node.get(TARGET)
    example = load(group, choices(group)[0])[TARGET]
    got = "null" if target is None else repr(target)
    return UserError(f"Expected {name} to name a class for {group}, such as {example}, but got {got}.")


def missing(option: str) -> str:
    """The sentence for an option that has no value of its own to fall back on."""
    return f"Expected a value for {option}, but it was removed; leave ~{option} out."


def checked(cls: type[T], node: DictConfig, name: str, **built: Any) -> T:
    """The dataclass `cls` with the options of a node; those in `built` are objects already.

    Raises
    ------
    UserError
        For an option that the class lacks or that does not fit, under the name that the user writes: `delta` where
        the node only passes the shared option on, else with `name`, such as `method.allocation.delta`.
    """
    plain = OmegaConf.to_container(node, resolve=True, throw_on_missing=True)
    assert isinstance(plain, dict)
    options = {str(key): value for key, value in plain.items() if key != TARGET} | built
    known = {field.name: field for field in fields(cls)}  # type: ignore[arg-type]
    for option in options:
        if option not in known:
            raise UserError(unknown_option(name, option, known))
    for option, field in known.items():
        if option not in options and _is_required(field):
            raise UserError(missing(f"{name}.{option}"))
    try:
        return cls(**options)
    except OptionError as error:
        raise UserError(f"Expected {_written(node, name, error.option)} to be {error.reason}") from error


def _is_required(field: "Field[Any]") -> bool:
    return field.default is MISSING and field.default_factory is MISSING


def _written(node: DictConfig, name: str, option: str) -> str:
    """The option as the user writes it."""
    first, _, rest = option.partition(".")
    raw = OmegaConf.to_container(node, resolve=False)
    assert isinstance(raw, dict)
    shared = _SHARED.fullmatch(str(raw.get(first)))
    return f"{shared[1] if shared else f'{name}.{first}'}{f'.{rest}' if rest else ''}"
