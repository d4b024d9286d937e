"""What conf/ offers: the choices of a group, and the options that a choice has before anything is composed."""

from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from emloc.errors import UserError
from experiments.setup.spellings import unknown

CONF = Path(__file__).parents[2] / "conf"
GROUPS = ("model", "dataset", "method", "logger")


@cache
def choices(group: str) -> tuple[str, ...]:
    """The names that `group=` or, with a slash, `method/importance=` can have, sorted."""
    return tuple(sorted(path.stem for path in (CONF / group).glob("*.yaml")))


@cache
def parts(group: str) -> tuple[str, ...]:
    """The groups within a group, such as method/importance and method/allocation within method."""
    return tuple(sorted(f"{group}/{path.name}" for path in (CONF / group).glob("*") if path.is_dir()))


def load(group: str, choice: str) -> DictConfig:
    """The options of a choice, not resolved, with those of the parts that its defaults name. Not to be written to.

    Hydra could compose it too, but not from within a resolver, which runs while Hydra composes.

    Raises
    ------
    UserError
        If the group has no such choice.
    """
    if choice not in choices(group):
        raise UserError(unknown(group, choice, choices(group)))
    return _loaded(group, choice)


@cache
def _loaded(group: str, choice: str) -> DictConfig:
    body = OmegaConf.load(CONF / group / f"{choice}.yaml")
    assert isinstance(body, DictConfig)
    named = body.pop("defaults", [])
    chosen = dict(_chosen([*named]))
    # The choice's own options come last, as `_self_` does: `none` sets to null there what a sweep may have chosen.
    merged = OmegaConf.merge({part: load(f"{group}/{part}", name) for part, name in chosen.items()}, body)
    assert isinstance(merged, DictConfig)
    return merged


def _chosen(defaults: Iterable[object]) -> Iterator[tuple[str, str]]:
    for entry in defaults:
        if isinstance(entry, DictConfig):  # not `_self_`
            yield from ((str(part), str(name)) for part, name in entry.items() if name is not None)


@cache
def known_options() -> frozenset[str]:
    """Every option of conf/config.yaml that is not in a group."""
    top = OmegaConf.load(CONF / "config.yaml")
    return frozenset(str(key) for key in top if key not in ("defaults", "hydra"))
