"""The options that the runner itself reads. All others belong to a component, and are checked where it is built."""

from dataclasses import dataclass, fields
from typing import Annotated, Literal

from omegaconf import DictConfig

from emloc.checkpoint import LoadOptions
from emloc.errors import UserError
from emloc.options import Count, CountOrZero, OptionError, Text, check_options
from experiments.setup.nodes import checked, missing


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Options of conf/config.yaml, which says what each means.

    Raises
    ------
    OptionError
        If a value is of the wrong type or out of range.
    """

    shots: CountOrZero
    seed: CountOrZero
    limit: Count | None
    heldout_js: CountOrZero
    heldout_layers: bool
    answer: Literal["generate", "rank"]
    batch_size: Count
    device: Annotated[str, "auto, cpu, cuda, cuda:1, npu or mps"]
    dtype: Literal["auto", "float32", "bfloat16", "float16"]
    attn: Literal["auto", "fused", "plain"]
    save_memory: bool
    save_kept: bool
    force: bool
    on_error: Literal["raise", "skip"]

    def __post_init__(self) -> None:
        check_options(self)

    @classmethod
    def of(cls, config: DictConfig) -> "Settings":
        """The settings among a run's configuration; UserError if one is missing or cannot be used."""
        names = [field.name for field in fields(cls)]
        for name in names:
            if name not in config:
                raise UserError(missing(name))
        return cls(**{name: config[name] for name in names})


@dataclass(frozen=True, kw_only=True)
class ModelOptions(LoadOptions):
    """Options of conf/model/, with those of `emloc.checkpoint.LoadOptions`.

    Parameters
    ----------
    path
        `tiny`, a folder, or a name on the Hub.
    name
        What the model is called in the run's name.
    visual_tokens
        Per image: as the `dataset` says, as the `checkpoint`'s image processor decides, or a number.

    Raises
    ------
    OptionError
        If a value is of the wrong type or out of range, or `load_kwargs` has what is an option itself.
    """

    path: Text
    name: Text
    visual_tokens: Literal["dataset", "checkpoint"] | Count

    def __post_init__(self) -> None:
        super().__post_init__()
        if "/" in self.name or "\\" in self.name:
            raise OptionError("name", f"a name without slashes, as folders are called by it, but got {self.name!r}.")

    @classmethod
    def of(cls, config: DictConfig) -> "ModelOptions":
        """The options of the model in a run's configuration; UserError if one cannot be used."""
        return checked(cls, config.model, "model")
