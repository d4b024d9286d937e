"""From a checkpoint's name or folder to a backbone, with one sentence for everything that can be wrong with it."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import torch
from huggingface_hub import try_to_load_from_cache
from safetensors import SafetensorError, safe_open
from transformers import AutoConfig

from emloc.attention import Attn, choose_kernel
from emloc.backbones import family_for
from emloc.backbones.base import Backbone
from emloc.checkpoint import LoadOptions
from emloc.errors import UserError
from emloc.options import check_option
from emloc.smollm2 import HUB, converted, smollm2

TINY = Path(__file__).parent / "assets" / "tiny"
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_PROBLEMS = (OSError, ValueError, KeyError, RuntimeError, TypeError, ImportError, SafetensorError)


def load_backbone(
    name: str | Path = "tiny",
    *,
    device: str = "auto",
    dtype: str = "auto",
    attn: Attn = "auto",
    visual_tokens: int | None = None,
    device_map: str | Mapping[str, str | int] | None = None,
    load_kwargs: Mapping[str, Any] | None = None,
    trust_remote_code: bool = False,
) -> Backbone:
    """Load a stock checkpoint in Hugging Face format.

    Parameters
    ----------
    name
        `tiny` (the embedded model), `smollm2` (see `emloc.smollm2`), a folder, or a name on the Hub such as
        `Qwen/Qwen2-VL-7B-Instruct`.
    device
        `auto` (accelerator if there is one), `cpu`, `cuda`, `cuda:1`, `npu`, `mps`.
    dtype
        `auto` (float32 on the CPU, the checkpoint's own elsewhere), `float32`, `bfloat16`, `float16`.
    attn
        The attention kernel: `auto` (the fastest that is right), `fused` (or an error), `plain` (any device).
    visual_tokens
        Visual tokens per image, approximately (images keep their aspect ratio); None leaves the checkpoint's range.
    device_map, load_kwargs, trust_remote_code
        See `emloc.checkpoint.LoadOptions`.

    Raises
    ------
    UserError
        If the checkpoint is missing, incomplete or of a family without a backbone, or the device is not there or
        cannot do the dtype. As much as possible is found before the weights are read.
    """
    options = LoadOptions(device_map=device_map, load_kwargs=load_kwargs, trust_remote_code=trust_remote_code)
    found = _Checkpoint.of(lambda: _source(name), device, dtype, attn, options)
    found.outline(visual_tokens)  # which sizes the image processor, too
    settings = _settings(options, found.config, found.place, device)
    model = _attempt(
        found.source, lambda: found.family.load_model(found.source, dtype=found.dtype or "auto", **settings)
    )
    if "device_map" not in settings:
        model.to(found.place)
    backbone = found.family(model, *found.readers, label_words=found.label_words, attn=attn)
    assert backbone.attention_kernels, "a model without layers"  # UserError where a layer's device lacks the kernel
    return backbone


def outline(
    name: str | Path = "tiny",
    *,
    device: str = "auto",
    dtype: str = "auto",
    attn: Attn = "auto",
    visual_tokens: int | None = None,
    device_map: str | Mapping[str, str | int] | None = None,
    load_kwargs: Mapping[str, Any] | None = None,
    trust_remote_code: bool = False,
) -> Backbone:
    """As `load_backbone`, without weights: they are on the meta device, which takes no memory.

    It tokenises and knows the sizes of everything, but computes nothing. Nothing is downloaded or converted.

    Raises
    ------
    NotAtHandError
        If the checkpoint is not on this machine.
    UserError
        As `load_backbone`.
    """
    options = LoadOptions(device_map=device_map, load_kwargs=load_kwargs, trust_remote_code=trust_remote_code)
    return _Checkpoint.of(lambda: _here(name), device, dtype, attn, options).outline(visual_tokens)


@dataclass(frozen=True)
class _Checkpoint:
    """What is known of a checkpoint before its weights are read, checked as far as it goes."""

    source: str | Path
    place: torch.device
    config: Any
    dtype: torch.dtype | None  # of the weights; None if only they themselves tell
    attn: Attn
    options: LoadOptions
    family: Any
    readers: tuple[Any, Any]
    label_words: tuple[str, ...] | None

    @classmethod
    def of(
        cls, find: Callable[[], str | Path], device: str, dtype: str, attn: Attn, options: LoadOptions
    ) -> "_Checkpoint":
        """What `find` finds, which may fetch it: bad options and a device that is not here are refused before that."""
        check_option("dtype", dtype, Literal["auto", *_DTYPES])
        check_option("attn", attn, Attn)
        place = resolve_device(device)
        source = find()
        config = _config(source, options)
        wanted = _wanted_dtype(dtype, place, config)
        if wanted is not None:
            check_dtype(place, wanted)
            choose_kernel(place.type, wanted, attn)
        family = family_for(config.model_type, source)
        readers = _attempt(source, lambda: family.load_readers(source, options))
        words = _attempt(source, lambda: _label_words(source))
        return cls(source, place, config, wanted, attn, options, family, readers, words)

    def outline(self, visual_tokens: int | None) -> Backbone:
        """The backbone without weights; UserError for what they cannot change."""
        made = _attempt(
            self.source,
            lambda: self.family.outline(
                self.config, *self.readers, self.options,
                dtype=self.dtype, label_words=self.label_words, attn=self.attn,
            ),
        )  # fmt: skip
        made.check_tokenizer()
        if visual_tokens is not None:
            made.set_visual_tokens(visual_tokens)
        return made


def _wanted_dtype(name: str, place: torch.device, config: Any) -> torch.dtype | None:
    """The type that the weights will have; None if only the weights themselves tell."""
    if name != "auto":
        return _DTYPES[name]
    if place.type == "cpu":
        return torch.float32
    return config.dtype or config.get_text_config(decoder=True).dtype


def _settings(options: LoadOptions, config: Any, place: torch.device, device: str) -> dict[str, Any]:
    """What `from_pretrained` is given besides the dtype."""
    settings = {**(options.load_kwargs or {}), "trust_remote_code": options.trust_remote_code}
    quantised = settings.get("quantization_config") or getattr(config, "quantization_config", None)
    if options.device_map is None and not quantised:
        return settings
    if options.device_map is not None and device != "auto":
        raise UserError(
            f"Expected device=auto beside device_map={options.device_map}, which says where each layer goes, but got "
            f"device={device}; leave one of them out."
        )
    if find_spec("accelerate") is None:
        what = "quantised weights" if quantised else "device_map"
        raise UserError(f"Expected accelerate to be installed for {what}, but it is not; pip install accelerate")
    # Quantised weights cannot be moved later: they are made where they stay.
    return {**settings, "device_map": {"": str(place)} if options.device_map is None else options.device_map}


def check_dtype(device: torch.device, dtype: torch.dtype) -> None:
    """UserError if the device cannot compute with numbers of this type; found out by trying."""
    name = str(dtype).removeprefix("torch.")
    try:
        numbers = torch.ones(2, 2, 4, device=device).to(dtype)
        mixed = torch.nn.functional.layer_norm(numbers @ numbers.transpose(1, 2), (2,)).softmax(-1)
        usable = bool(mixed.float().isfinite().all())
    except (RuntimeError, TypeError) as error:  # TypeError: MPS of old systems has no bfloat16
        usable, reason = False, str(error).splitlines()[0]
    else:
        reason = "its results are not finite"
    if not usable:
        raise UserError(
            f"Expected a dtype that {device} can compute with, but {name} fails there ({reason}); use dtype=float32."
        )


class NotAtHandError(UserError):
    """A checkpoint that would have to be downloaded or converted first."""


def converted_bytes(name: str | Path, dtype: torch.dtype) -> int:
    """Bytes of the checkpoint's files that hold another number type than `dtype`: all are held while they are read."""
    folder = Path(at_hand(name) or "")
    return sum(path.stat().st_size for path in folder.glob("*.safetensors") if _first_dtype(path) != dtype)


def _first_dtype(path: Path) -> torch.dtype:
    with safe_open(path, framework="pt") as opened:
        return opened.get_tensor(next(iter(opened.keys()))).dtype


def at_hand(name: str | Path) -> str | Path | None:
    """The folder of a checkpoint on this machine, the Hub's cache included; None if it has yet to be fetched."""
    if name == "tiny":
        return TINY
    if name != "smollm2" and _is_folder(name):
        return name
    cached = try_to_load_from_cache(HUB if name == "smollm2" else str(name), "config.json")
    if isinstance(cached, str):
        return Path(cached).parent
    return converted() if name == "smollm2" and (converted() / "config.json").is_file() else None


def _here(name: str | Path) -> str | Path:
    source = at_hand(name)
    if source is None:
        raise NotAtHandError(f"{name} is not on this machine; the run itself gets it.")
    return source


def resolve_device(name: str) -> torch.device:
    """The torch device of this name, checked to be usable here."""
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if name == "auto":
        return accelerator or torch.device("cpu")
    if name.partition(":")[0] == "npu" and (accelerator is None or accelerator.type != "npu"):
        raise UserError(_without_npu())
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(f"Expected device to be auto, cpu, cuda, npu or mps, but got {name!r}.") from None
    here = accelerator.type if accelerator else "cpu"
    count = torch.accelerator.device_count() if accelerator else 0
    if device.type not in {"cpu", here} or (device.index or 0) >= max(1, count):
        have = f"cpu and {count} {here} device(s)" if accelerator else "only cpu"
        raise UserError(
            f"Expected a device of this machine, but device={name} is not available here, {have}; use device=auto."
        )
    return device


def _without_npu() -> str:
    """The sentence for an Ascend NPU that torch cannot use."""
    version = torch.__version__.partition("+")[0]
    if find_spec("torch_npu") is None:
        return (
            f"Expected torch-npu for device=npu, but it is not installed; pip install torch-npu=={version}, the "
            "version of your torch, beside Ascend's CANN toolkit."
        )
    return (
        "Expected an Ascend NPU for device=npu, but torch-npu finds none; load CANN (source set_env.sh of its toolkit) "
        "and look with npu-smi info."
    )


def _source(name: str | Path) -> str | Path:
    """The folder or the Hub's name that stands behind a name of ours."""
    if name == "tiny":
        return TINY
    return _attempt(name, smollm2) if name == "smollm2" else name


def _config(source: str | Path, options: LoadOptions) -> Any:
    """The checkpoint's configuration."""
    if _is_folder(source) and not (Path(source) / "config.json").is_file():
        state = "has no config.json" if Path(source).is_dir() else "does not exist"
        raise UserError(f"Expected a checkpoint folder in Hugging Face format, but {source} {state}.")
    # Said in so many words: left open, transformers asks on the terminal whether it may run the checkpoint's code.
    trusted = options.trust_remote_code
    return _attempt(source, lambda: AutoConfig.from_pretrained(source, trust_remote_code=trusted, **options.where))


def _is_folder(source: str | Path) -> bool:
    """A path, rather than an `owner/name` of the Hub."""
    text = str(source)
    return isinstance(source, Path) or Path(text).exists() or text.startswith((".", "/", "~")) or text.count("/") != 1


def _label_words(source: str | Path) -> tuple[str, ...] | None:
    path = Path(source) / "labels.json"
    return tuple(json.loads(path.read_text())) if path.is_file() else None


def _attempt(source: str | Path, load: Any) -> Any:
    try:
        return load()
    except UserError:
        raise
    except _PROBLEMS as error:
        if "`trust_remote_code=True`" in str(error):
            raise UserError(
                f"Expected trust_remote_code=true for {source}, which comes with program code of its own, but got "
                "false; read that code first, then set it."
            ) from error
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(
            f"Expected a complete checkpoint, a folder or a name on the Hub, but {source} cannot be loaded ({first})."
        ) from error
