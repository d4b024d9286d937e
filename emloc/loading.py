"""From a checkpoint's name or folder to a backbone, with one sentence for everything that can be wrong with it."""

import json
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import try_to_load_from_cache
from safetensors import SafetensorError, safe_open
from transformers import AutoConfig
from transformers.initialization import no_init_weights

from emloc.backbones import family_for
from emloc.backbones.base import Backbone
from emloc.errors import UserError, nearest
from emloc.smollm2 import HUB, converted, smollm2

TINY = Path(__file__).parent / "assets" / "tiny"
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_PROBLEMS = (OSError, ValueError, KeyError, RuntimeError, TypeError, SafetensorError)


def load_backbone(
    name: str | Path = "tiny", *, device: str = "auto", dtype: str = "auto", visual_tokens: int | None = None
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
    visual_tokens
        Visual tokens per image, approximately (images keep their aspect ratio); None leaves the checkpoint's range.

    Raises
    ------
    UserError
        If the checkpoint is missing, incomplete or of a family without a backbone, or the device is not there.
    """
    source = _source(name)
    place, number_type = resolve_device(device), _resolve_dtype(dtype)
    family = _family(source)
    if number_type == "auto" and place.type == "cpu":
        number_type = torch.float32
    parts = _attempt(source, lambda: family.load(source, number_type))
    label_words = _attempt(source, lambda: _label_words(source))
    backbone = family(*parts, label_words=label_words)
    backbone.check_tokenizer()
    backbone.model.to(place)
    if visual_tokens is not None:
        backbone.set_visual_tokens(visual_tokens)
    return backbone


def outline(
    name: str | Path = "tiny", *, device: str = "auto", dtype: str = "auto", visual_tokens: int | None = None
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
    source = at_hand(name)
    if source is None:
        raise NotAtHandError(f"{name} is not on this machine; the run itself gets it.")
    place, number_type, config = resolve_device(device), _resolve_dtype(dtype), _config(source)
    family = family_for(config.model_type, source)
    if number_type == "auto":
        number_type = torch.float32 if place.type == "cpu" else config.dtype
    backbone = family(
        _attempt(source, lambda: _meta_model(family, config, number_type)),
        *_attempt(source, lambda: family.load_readers(source)),
        label_words=_attempt(source, lambda: _label_words(source)),
    )
    backbone.check_tokenizer()
    if visual_tokens is not None:
        backbone.set_visual_tokens(visual_tokens)
    return backbone


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


def _meta_model(family: type[Backbone], config: Any, dtype: torch.dtype | str | None) -> Any:
    with torch.device("meta"), no_init_weights():
        model = family.model_class.from_config(config, dtype=dtype)
    model.tie_weights()  # part of the initialisation that is left out
    return model


def resolve_device(name: str) -> torch.device:
    """The torch device of this name, checked to be usable here."""
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if name == "auto":
        return accelerator or torch.device("cpu")
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


def _resolve_dtype(name: str) -> torch.dtype | str:
    if name != "auto" and name not in _DTYPES:
        raise UserError(f"Expected dtype to be auto, {', '.join(_DTYPES)}, but got {name!r}.{nearest(name, _DTYPES)}")
    return _DTYPES.get(name, "auto")


def _source(name: str | Path) -> str | Path:
    """The folder or the Hub's name that stands behind a name of ours."""
    if name == "tiny":
        return TINY
    return _attempt(name, smollm2) if name == "smollm2" else name


def _family(source: str | Path) -> Any:
    """The backbone class for a checkpoint, by the model type its config names."""
    return family_for(_config(source).model_type, source)


def _config(source: str | Path) -> Any:
    if _is_folder(source) and not (Path(source) / "config.json").is_file():
        state = "has no config.json" if Path(source).is_dir() else "does not exist"
        raise UserError(f"Expected a checkpoint folder in Hugging Face format, but {source} {state}.")
    return _attempt(source, lambda: AutoConfig.from_pretrained(source))


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
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(
            f"Expected a complete checkpoint, a folder or a name on the Hub, but {source} cannot be loaded ({first})."
        ) from error
