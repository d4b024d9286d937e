"""The scalars of conf/config.yaml, checked before anything is loaded."""

import math
from dataclasses import dataclass, fields
from typing import get_args

from omegaconf import DictConfig

from emloc.errors import UserError, check_choice
from experiments.metrics import Scoring

ON_ERROR = ("raise", "skip")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """See conf/config.yaml for what each means.

    Raises
    ------
    UserError
        If a value is of the wrong type or out of range.
    """

    shots: int
    demonstrations: str | None
    chunk_size: int
    delta: float
    ratios: list[float]
    budget: float | str
    seed: int
    scoring: str
    limit: int | None
    heldout_js: int
    batch_size: int
    device: str
    dtype: str
    save_memory: bool
    save_kept: bool
    force: bool
    on_error: str

    def __post_init__(self) -> None:
        for name, least in (("shots", 0), ("chunk_size", 1), ("seed", 0), ("heldout_js", 0), ("batch_size", 1)):
            _check_count(name, getattr(self, name), least)
        if self.limit is not None:
            _check_count("limit", self.limit, 1)
        for name in ("save_memory", "save_kept", "force"):
            if not isinstance(getattr(self, name), bool):
                raise UserError(f"Expected {name} to be true or false, but got {getattr(self, name)!r}.")
        check_choice("scoring", self.scoring, get_args(Scoring))
        check_choice("on_error", self.on_error, ON_ERROR)
        number = isinstance(self.delta, int | float) and not isinstance(self.delta, bool)
        if not number or not 0 <= self.delta <= math.log(2):
            raise UserError(f"Expected delta to be a number from 0 to ln 2 = 0.6931 (nats), but got {self.delta!r}.")

    @classmethod
    def of(cls, config: DictConfig) -> "Settings":
        """The settings among a run's configuration."""
        return cls(**{field.name: config[field.name] for field in fields(cls)})


def _check_count(name: str, value: object, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise UserError(f"Expected {name} to be a whole number from {least} up, but got {value!r}.")
