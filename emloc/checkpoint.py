"""Options of a checkpoint: how transformers loads its weights, and from where. Needs no torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from emloc.options import OptionError, check_options

_OWN = ("dtype", "torch_dtype", "device_map", "trust_remote_code")
# What says where a checkpoint's files come from holds for its configuration and its tokenizer as well.
_WHERE = ("cache_dir", "force_download", "local_files_only", "proxies", "revision", "subfolder", "token")


@dataclass(frozen=True, kw_only=True)
class LoadOptions:
    """How the weights are loaded.

    Parameters
    ----------
    device_map
        For a model larger than one device: `auto`, another word that accelerate knows, or a device for each module.
    load_kwargs
        More arguments of transformers' `from_pretrained`, such as `revision` or `quantization_config`.
    trust_remote_code
        Run program code that comes with the checkpoint. Never done unless asked for.

    Raises
    ------
    OptionError
        If a value is of the wrong type, or `load_kwargs` has what is an option of its own.
    """

    device_map: Annotated[str | Mapping[str, str | int] | None, "auto, a device for each module, or null"] = None
    load_kwargs: Mapping[str, Any] | None = None
    trust_remote_code: bool = False

    def __post_init__(self) -> None:
        check_options(self)
        taken = [name for name in self.load_kwargs or () if name in _OWN]
        if taken:
            raise OptionError(
                "load_kwargs",
                "arguments of from_pretrained that are no options of their own, as dtype, device_map and "
                f"trust_remote_code are, but got {taken[0]}; write that option instead.",
            )

    @property
    def where(self) -> dict[str, Any]:
        """The part of `load_kwargs` that says where files come from."""
        return {name: value for name, value in (self.load_kwargs or {}).items() if name in _WHERE}
