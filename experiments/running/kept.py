"""kept.npz: which tokens every layer and KV head kept, and what a picture of that needs besides.

Arrays, for L layers, H KV heads, N raw context tokens and D demonstrations:
    kept (L, H, N / 8 rounded up) uint8: one bit per token, packed along the last axis, most significant bit first
    texts (N,): what each token stands for; empty for visual tokens
    kinds (N,) uint8: 0 question and chat markers, 1 image, 2 answer
    owners (N,) int32: the demonstration that a token is of, -1 for the system turn
    grids (D, 2) int32: rows and columns of a demonstration's visual tokens, in reading order; 0, 0 if there are none,
        or if their positions do not tell. The rows of a video are those of all its temporal steps
    image_<d>: the bytes of a small PNG of demonstration d's image; absent where it has none. Of a video it holds the
        first frame of every temporal step, from top to bottom
"""

import io
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from emloc.backbones.base import Backbone
from emloc.methods.trace import Trace
from emloc.prompt import TokenKind, Visual, load_frames
from emloc.rows import Row
from experiments.running.images import Watched, small


def write_kept(path: Path, trace: Trace, watched: Watched, backbone: Backbone) -> None:
    """Write the file, whole or not at all; of a method that does not use its demonstrations it holds no tokens."""
    raw, owners = trace.raw, trace.owners.cpu()
    used = watched.demonstrations if len(raw) else []
    arrays = {
        "kept": _packed(trace),
        "texts": np.array(_texts(raw, backbone), dtype=np.str_),
        "kinds": raw.kinds.cpu().numpy(),
        "owners": owners.numpy().astype(np.int32),
        "grids": np.array([_grid(raw, owners == number) for number in range(len(used))], np.int32).reshape(-1, 2),
        **{
            f"image_{number}": _png(watched.pictures.get(number) or _picture(item.visual, backbone))
            for number, item in enumerate(used)
            if item.visual is not None
        },
    }
    _write(path, arrays)


def _packed(trace: Trace) -> np.ndarray:
    layers, tokens = trace.memory.layers, trace.memory.tokens_seen
    kept = np.zeros((len(layers), len(layers[0].lengths), tokens), dtype=bool)
    for number, layer in enumerate(layers):
        for head, (_, _, index) in enumerate(layer.heads):
            kept[number, head, index.cpu().numpy()] = True
    return np.packbits(kept[..., trace.before :], axis=-1)


def _texts(raw: Row, backbone: Backbone) -> list[str]:
    ids, visual = raw.ids.tolist(), (raw.kinds == TokenKind.IMAGE).tolist()
    known = {token: backbone.tokenizer.decode([token]) for token in set(ids)}
    return ["" if is_visual else known[token] for token, is_visual in zip(ids, visual, strict=True)]


def _grid(raw: Row, mine: torch.Tensor) -> tuple[int, int]:
    """Rows and columns of the visual tokens among `mine`, by the axes of their positions (mRoPE)."""
    places = raw.positions.cpu()[:, mine & (raw.kinds.cpu() == TokenKind.IMAGE)]
    if not places.shape[1] or len(places) != 3:
        return 0, 0
    steps, rows, columns = (int(axis.max() - axis.min()) + 1 for axis in places)
    return (steps * rows, columns) if steps * rows * columns == places.shape[1] else (0, 0)


def _picture(visual: Visual, backbone: Backbone) -> Image.Image:
    """A small picture of the visual: of an image itself, of a video the first frames of its steps."""
    frames = [small(frame) for frame in islice(load_frames(visual), 0, None, backbone.frames_per_step)]
    strip = Image.new("RGB", (frames[0].width, sum(frame.height for frame in frames)))
    for number, frame in enumerate(frames):
        strip.paste(frame, (0, number * frame.height))
    return strip


def _png(image: Image.Image) -> np.ndarray:
    stream = io.BytesIO()
    image.save(stream, format="PNG")
    return np.frombuffer(stream.getvalue(), dtype=np.uint8)


def _write(path: Path, arrays: Mapping[str, Any]) -> None:
    partial = path.with_name(f"{path.name}.partial")
    with partial.open("wb") as file:
        np.savez_compressed(file, **arrays)
    partial.replace(path)
