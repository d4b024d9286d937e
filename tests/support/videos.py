"""Small videos for tests, encoded on the spot; the colour of a frame tells its number."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image

_LEVELS = 6  # of each colour channel, far enough apart to survive the encoder


def write_video(
    path: Path,
    frames: int,
    *,
    size: tuple[int, int] = (48, 32),
    codec: str = "libx264",
    gop: int = 12,
    b_frames: int = 2,
    times: Sequence[int] | None = None,
    options: dict[str, str] | None = None,
    noise: bool = False,
) -> Path:
    """Frames of one colour each, or of `noise`; `times` in milliseconds (default: 25 frames a second)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", options=options or {}) as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        stream.codec_context.gop_size = gop
        stream.codec_context.max_b_frames = b_frames
        stream.codec_context.time_base = Fraction(1, 1000) if times is not None else Fraction(1, 25)
        if codec == "libx264":
            stream.options = {"crf": "1", "sc_threshold": "0", "b-adapt": "0", "bf": str(b_frames)}
        else:
            stream.codec_context.bit_rate = 4_000_000
        for number in range(frames):
            frame = av.VideoFrame.from_image(_noise(number, size) if noise else Image.new("RGB", size, colour(number)))
            frame.pts = times[number] if times is not None else number
            frame.time_base = stream.codec_context.time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def colour(number: int) -> tuple[int, int, int]:
    """The colour of the frame with this number (below 216)."""
    digits = [number // _LEVELS**place % _LEVELS for place in range(3)]
    return (40 * digits[0] + 25, 40 * digits[1] + 25, 40 * digits[2] + 25)


def _noise(number: int, size: tuple[int, int]) -> Image.Image:
    pixels = np.random.default_rng(number).integers(0, 256, (size[1] // 8, size[0] // 8, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC)


def number_of(image: Image.Image) -> int:
    """The number of the frame that this image shows."""
    levels = [round((value - 25) / 40) for value in np.asarray(image).reshape(-1, 3).mean(0)]
    return sum(level * _LEVELS**place for place, level in enumerate(levels))
