"""Memory: what a task's demonstrations leave behind, a KV cache whose layers have different lengths."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from transformers import DynamicCache

from emloc.attention import KeyValues
from emloc.errors import UserError

FORMAT = "emloc-memory-1"


class Reader(Protocol):
    """What a memory must know of the model that reads it (every `Backbone` is one)."""

    @property
    def fingerprint(self) -> str:
        """Identifies the weights."""

    @property
    def layer_devices(self) -> Sequence[torch.device]:
        """Where each layer of the memory goes."""

    @property
    def dtype(self) -> torch.dtype:
        """The type that the memory takes."""


@dataclass(frozen=True)
class MemoryLayer:
    """One layer: keys already carry their original rotation; tokens may differ between KV heads, their count not."""

    keys: Tensor  # (H_kv, T, D)
    values: Tensor  # (H_kv, T, D)
    index: Tensor  # (H_kv, T) int32: which token of the raw context each entry is

    @property
    def length(self) -> int:
        """T, entries per KV head."""
        return self.keys.shape[1]

    @property
    def key_values(self) -> KeyValues:
        """The pair that attention reads."""
        return KeyValues(self.keys, self.values)

    @property
    def nbytes(self) -> int:
        """Bytes of keys and values (the index is provenance, not needed to answer)."""
        return self.keys.nbytes + self.values.nbytes

    def select(self, kept: Tensor) -> "MemoryLayer":
        """Keep entries `kept` (H_kv, K) of every KV head."""
        kept = kept.to(self.keys.device)
        entries = kept[..., None].expand(-1, -1, self.keys.shape[-1])
        return MemoryLayer(self.keys.gather(1, entries), self.values.gather(1, entries), self.index.gather(1, kept))

    def after(self, length: int) -> "MemoryLayer":
        """What follows the first `length` entries of every KV head."""
        return MemoryLayer(self.keys[:, length:], self.values[:, length:], self.index[:, length:])

    def append(self, other: "MemoryLayer") -> "MemoryLayer":
        """This layer followed by `other`."""
        pairs = zip((self.keys, self.values, self.index), (other.keys, other.values, other.index), strict=True)
        return MemoryLayer(*(torch.cat(pair, dim=1) for pair in pairs))


@dataclass(frozen=True)
class Memory:
    """Compressed context: queries run at positions from `offset` on and see every entry of every layer.

    Attributes
    ----------
    layers
        One `MemoryLayer` per decoder layer, bottom to top.
    offset
        Next free position: the raw length of the context in positions, never the compressed one.
    tokens_seen
        Raw context tokens that went in (what `compression` is measured against).
    fingerprint
        Of the model that made it; another model cannot read it.
    """

    layers: tuple[MemoryLayer, ...]
    offset: int
    tokens_seen: int
    fingerprint: str

    @property
    def lengths(self) -> list[int]:
        """Entries per KV head, layer by layer."""
        return [layer.length for layer in self.layers]

    @property
    def mean_length(self) -> float:
        """Mean entries per KV head over layers: the context length that is reported."""
        return sum(self.lengths) / len(self.layers)

    @property
    def nbytes(self) -> int:
        """Bytes of all keys and values."""
        return sum(layer.nbytes for layer in self.layers)

    def extend(self, chunk: Sequence[MemoryLayer], *, offset: int, tokens: int) -> "Memory":
        """A memory with `chunk` appended: `offset` is the new next position, `tokens` the chunk's raw length."""
        layers = tuple(old.append(new) for old, new in zip(self.layers, chunk, strict=True))
        return Memory(layers, offset, self.tokens_seen + tokens, self.fingerprint)

    def select(self, kept: Sequence[Tensor | None]) -> "Memory":
        """Keep entries kept[l] (H_kv, K_l) of layer l; None keeps the whole layer."""
        layers = tuple(
            layer if index is None else layer.select(index) for layer, index in zip(self.layers, kept, strict=True)
        )
        return Memory(layers, self.offset, self.tokens_seen, self.fingerprint)

    def to_cache(self) -> DynamicCache:
        """A transformers cache of one row that holds this memory, for code outside this library.

        Layers keep their unequal lengths; transformers' own masks assume one length for all layers, so stock
        `generate` can use it only if nothing was pruned.
        """
        return DynamicCache([(layer.keys[None], layer.values[None]) for layer in self.layers])

    def save(self, path: str | Path) -> None:
        """Write the memory as safetensors (keys, values and index of every layer; the rest as metadata)."""
        tensors = {
            f"{name}.{number}": getattr(layer, name).contiguous().cpu()
            for number, layer in enumerate(self.layers)
            for name in ("keys", "values", "index")
        }
        about = {"offset": self.offset, "tokens_seen": self.tokens_seen, "layers": len(self.layers)}
        metadata = {"format": FORMAT, "fingerprint": self.fingerprint, "about": json.dumps(about)}
        try:
            # safetensors writes a temporary file and renames it: an interrupted save leaves nothing half-written.
            save_file(tensors, path, metadata={**metadata, "checksum": _checksum(tensors)})
        except (OSError, SafetensorError) as error:
            raise UserError(f"Expected a writable place for the memory file, but got {path} ({error}).") from error

    @classmethod
    def load(cls, path: str | Path, backbone: Reader) -> "Memory":
        """Read a memory that `backbone`'s model made.

        Raises
        ------
        UserError
            If the file is missing, damaged, no memory file, or was made by another model.
        """
        tensors, metadata = _read(Path(path))
        if metadata["fingerprint"] != backbone.fingerprint:
            raise UserError(
                f"Expected a memory made by this model, but {path} was made by another one (fingerprint "
                f"{metadata['fingerprint']}, this model has {backbone.fingerprint}); load the model it was made with."
            )
        about = json.loads(metadata["about"])
        layers = tuple(_layer(tensors, number, backbone) for number in range(about["layers"]))
        return cls(layers, about["offset"], about["tokens_seen"], metadata["fingerprint"])


def _layer(tensors: dict[str, Tensor], number: int, backbone: Reader) -> MemoryLayer:
    device = backbone.layer_devices[number]
    keys, values = (tensors[f"{name}.{number}"].to(device, backbone.dtype) for name in ("keys", "values"))
    return MemoryLayer(keys, values, tensors[f"index.{number}"].to(device))


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """All tensors and the metadata of a memory file, or one sentence about what is wrong with it."""
    if not path.is_file():
        raise UserError(f"Expected a memory file, but there is no file {path}; make it with Memory.save.")
    try:
        with safe_open(path, framework="pt") as opened:
            metadata = opened.metadata() or {}
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError) as error:
        raise UserError(f"Expected a memory file, but {path} is damaged ({error}); make it again.") from error
    if metadata.get("format") != FORMAT:
        found = metadata.get("format", "something else")
        raise UserError(f"Expected a memory file of format {FORMAT}, but {path} is {found}; make it with this version.")
    if metadata.get("checksum") != _checksum(tensors):
        raise UserError(f"Expected a memory file, but {path} is damaged (its checksum differs); make it again.")
    return tensors, metadata


def _checksum(tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].view(torch.uint8).numpy().data)
    return digest.hexdigest()
