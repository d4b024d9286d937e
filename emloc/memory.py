"""Memory: what a task's demonstrations leave behind, a KV cache whose layers have different lengths."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Protocol

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from transformers import DynamicCache

from emloc.attention import KeyValues
from emloc.errors import UserError
from emloc.quantising import Quantisation

FORMAT = "emloc-memory-2"
_READABLE = ("emloc-memory-1", FORMAT)  # 1: all KV heads of a layer have equally many entries


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


# Which entries of a layer stay: (H_kv, K) ascending, or where KV heads keep different numbers (K_h,) for each of them.
Choice = Tensor | tuple[Tensor, ...]
Head = tuple[Tensor, Tensor, Tensor]  # keys (T, D), values (T, D) and index (T,) of one KV head


@dataclass(frozen=True)
class MemoryLayer:
    """One layer: keys already carry their original rotation; which tokens there are may differ between KV heads.

    Where their number differs too, `counts` has it per KV head, and the tensors are packed, head after head.
    """

    keys: Tensor  # (H_kv, T, D), or (E, D) with E = sum(counts)
    values: Tensor  # as the keys
    index: Tensor  # (H_kv, T) or (E,) int32: which token of the raw context each entry is
    counts: tuple[int, ...] | None = None

    @classmethod
    def of_heads(cls, heads: Sequence[Head]) -> "MemoryLayer":
        """The layer of these KV heads; packed only if they have different numbers of entries."""
        counts = tuple(len(index) for *_, index in heads)
        equal = len(set(counts)) == 1
        join = torch.stack if equal else torch.cat
        keys, values, index = (join(parts) for parts in zip(*heads, strict=True))
        return cls(keys, values, index, None if equal else counts)

    @property
    def heads(self) -> list[Head]:
        """Every KV head by itself."""
        parts = (self.keys, self.values, self.index)
        split = [part.unbind() if self.counts is None else part.split(self.counts) for part in parts]
        return list(zip(*split, strict=True))

    @property
    def lengths(self) -> tuple[int, ...]:
        """Entries of every KV head."""
        return self.counts or (self.keys.shape[1],) * self.keys.shape[0]

    @property
    def length(self) -> float:
        """Entries per KV head; a mean, where they differ."""
        return self.keys.shape[1] if self.counts is None else sum(self.counts) / len(self.counts)

    @property
    def entry_bytes(self) -> int:
        """Bytes of one token's keys and values in all KV heads."""
        return 2 * len(self.lengths) * self.keys.shape[-1] * self.keys.element_size()

    @property
    def key_values(self) -> KeyValues:
        """What attention reads."""
        return KeyValues(self.keys, self.values, self.counts)

    @property
    def nbytes(self) -> int:
        """Bytes of keys and values (the index is provenance, not needed to answer)."""
        return self.keys.nbytes + self.values.nbytes

    def select(self, kept: Choice) -> "MemoryLayer":
        """Keep these entries of every KV head."""
        if self.counts is not None or isinstance(kept, tuple):
            pairs = zip(self.heads, (at.to(self.keys.device) for at in kept), strict=True)
            return MemoryLayer.of_heads([(keys[at], values[at], index[at]) for (keys, values, index), at in pairs])
        kept = kept.to(self.keys.device)
        entries = kept[..., None].expand(-1, -1, self.keys.shape[-1])
        return MemoryLayer(self.keys.gather(1, entries), self.values.gather(1, entries), self.index.gather(1, kept))

    def kept(self, choice: Choice | None, values: Tensor | None = None) -> "MemoryLayer":
        """The chosen entries, all of them for None; `values` (as those of the result) take the place of theirs."""
        chosen = self if choice is None else self.select(choice)
        return chosen if values is None else replace(chosen, values=values)

    def after(self, other: "MemoryLayer") -> "MemoryLayer":
        """What was appended to `other` to make this layer."""
        if self.counts is None and other.counts is None:
            start = other.keys.shape[1]
            return MemoryLayer(self.keys[:, start:], self.values[:, start:], self.index[:, start:])
        pairs = zip(self.heads, other.lengths, strict=True)
        return MemoryLayer.of_heads([(keys[n:], values[n:], index[n:]) for (keys, values, index), n in pairs])

    def append(self, other: "MemoryLayer") -> "MemoryLayer":
        """This layer followed by `other`, head by head."""
        if self.counts is not None or other.counts is not None:
            return MemoryLayer.of_heads([_joined(*pair) for pair in zip(self.heads, other.heads, strict=True)])
        pairs = zip((self.keys, self.values, self.index), (other.keys, other.values, other.index), strict=True)
        keys, values, index = (torch.cat(pair, dim=1) for pair in pairs)
        return MemoryLayer(keys, values, index)


def _joined(first: Head, second: Head) -> Head:
    keys, values, index = (torch.cat(pair) for pair in zip(first, second, strict=True))
    return keys, values, index


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
    refitted
        Whether values were changed to make up for what was pruned: they are no longer those of the model.
    quantisation
        How entries are taken to be stored, None: as they are. It is simulated: they are rounded so, in the same type.
    """

    layers: tuple[MemoryLayer, ...]
    offset: int
    tokens_seen: int
    fingerprint: str
    refitted: bool = False
    quantisation: Quantisation | None = None

    @property
    def lengths(self) -> list[float]:
        """Entries per KV head, layer by layer; a layer's mean, where its KV heads differ."""
        return [layer.length for layer in self.layers]

    @property
    def mean_length(self) -> float:
        """Mean entries per KV head over layers: the context length that is reported."""
        return sum(self.lengths) / len(self.layers)

    @property
    def nbytes(self) -> int:
        """Bytes of all keys and values; if they are quantised, what they would take so, with steps and zero points."""
        if self.quantisation is None:
            return sum(layer.nbytes for layer in self.layers)
        return sum(
            self.quantisation.nbytes(layer.lengths, channels=layer.keys.shape[-1], element=layer.keys.element_size())
            for layer in self.layers
        )

    def extend(self, chunk: Sequence[MemoryLayer], *, offset: int, tokens: int, refitted: bool = False) -> "Memory":
        """A memory with `chunk` appended: `offset` is the new next position, `tokens` the chunk's raw length."""
        self._check_own_entries()
        layers = tuple(old.append(new) for old, new in zip(self.layers, chunk, strict=True))
        return Memory(layers, offset, self.tokens_seen + tokens, self.fingerprint, self.refitted or refitted)

    def select(self, kept: Sequence[Choice | None]) -> "Memory":
        """Keep entries kept[l] of layer l; None keeps the whole layer."""
        self._check_own_entries()
        layers = tuple(
            layer if index is None else layer.select(index) for layer, index in zip(self.layers, kept, strict=True)
        )
        return Memory(layers, self.offset, self.tokens_seen, self.fingerprint, self.refitted)

    def _check_own_entries(self) -> None:
        """UserError if entries are quantised, in groups that none can join or leave."""
        if self.quantisation is not None:
            raise UserError(
                "Expected a memory of the model's own entries to be changed, but got a quantised one; prune or extend "
                "the memory first, and quantise it last."
            )

    def to_cache(self) -> DynamicCache:
        """A transformers cache of one row that holds this memory, for code outside this library.

        Layers keep their unequal lengths; transformers' own masks assume one length for all layers, so stock
        `generate` can use it only if nothing was pruned; `backbone.generate` can use any.

        Raises
        ------
        UserError
            If KV heads of a layer have different numbers of entries, which such a cache cannot hold.
        """
        if any(layer.counts is not None for layer in self.layers):
            raise UserError(
                "Expected a memory whose KV heads have equally many entries, as a cache of transformers needs, but got "
                "one whose heads differ; generate with backbone.generate(query, memory), which reads it as it is."
            )
        return DynamicCache([(layer.keys[None], layer.values[None]) for layer in self.layers])

    def save(self, path: str | Path) -> None:
        """Write the memory as safetensors (keys, values and index of every layer; the rest as metadata).

        A quantised memory is written as it is held, dequantised, with what it would be stored as: the file is larger
        than `nbytes`.
        """
        tensors = {
            f"{name}.{number}": getattr(layer, name).contiguous().cpu()
            for number, layer in enumerate(self.layers)
            for name in ("keys", "values", "index")
        }
        about = {
            "offset": self.offset,
            "tokens_seen": self.tokens_seen,
            "layers": len(self.layers),
            "counts": [layer.counts for layer in self.layers],
            "refitted": self.refitted,
            "quantisation": None if self.quantisation is None else asdict(self.quantisation),
        }
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
        counts = about.get("counts") or [None] * about["layers"]
        layers = tuple(_layer(tensors, number, of_heads, backbone) for number, of_heads in enumerate(counts))
        stored = about.get("quantisation")
        told = (about["offset"], about["tokens_seen"], metadata["fingerprint"], about.get("refitted", False))
        return cls(layers, *told, Quantisation(**stored) if stored else None)


def _layer(tensors: dict[str, Tensor], number: int, counts: list[int] | None, backbone: Reader) -> MemoryLayer:
    device = backbone.layer_devices[number]
    keys, values = (tensors[f"{name}.{number}"].to(device, backbone.dtype) for name in ("keys", "values"))
    index = tensors[f"index.{number}"].to(device)
    return MemoryLayer(keys, values, index, None if counts is None else tuple(counts))


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
    if metadata.get("format") not in _READABLE:
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
