"""Small videos for tests, encoded on the spot."""

from pathlib import Path

import av
import numpy as np


def write_clip(path: Path, *, frames: int = 12, seed: int = 0) -> Path:
    """A grey ramp in time beside a constant of the seed, 32 x 24 pixels at ten frames per second."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 32, 24, "yuv420p"
        for number in range(frames):
            pixels = np.full((24, 32, 3), 20 * number % 256, np.uint8)
            pixels[:, :16] = 37 * seed % 256
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    return path
