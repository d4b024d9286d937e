"""Videos as visuals: a file and how many of its frames are looked at."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Video:
    """A video file, seen as `frames` frames at uniform times from its first to its last frame."""

    path: Path
    frames: int = 8
