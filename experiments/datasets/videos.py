"""Where the videos of a benchmark are, and which file a row means."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from emloc.errors import UserError


@dataclass(frozen=True)
class VideoFolder:
    """A folder of video files. `remedy` says what to download, as the rest of a sentence."""

    path: Path
    remedy: str

    def check(self) -> None:
        """UserError if the folder is not there."""
        if not self.path.is_dir():
            raise UserError(f"Expected the videos in the folder {self.path}, but it is not there; {self.remedy}")

    def find(self, name: str, endings: Sequence[str] = ("",)) -> Path:
        """The first of the files `name` + ending that is there; UserError if none is."""
        for ending in endings:
            if (self.path / f"{name}{ending}").is_file():
                return self.path / f"{name}{ending}"
        raise UserError(f"Expected the video {name}{endings[0]} in {self.path}, but it is not there; {self.remedy}")


def video_folder(given: str | Path | None, usual: str, remedy: str) -> VideoFolder:
    """The folder that is given, or the `usual` one below the Hugging Face home, as in the public implementation."""
    home = Path(os.environ.get("HF_HOME", "~/.cache/huggingface")).expanduser()
    return VideoFolder(Path(given).expanduser() if given else home / usual, remedy)
