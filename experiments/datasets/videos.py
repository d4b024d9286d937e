"""Benchmarks about videos: where their files are, and which of them a row means."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from emloc.errors import UserError
from emloc.options import Count, Text
from emloc.prompt import Visual
from emloc.video import Video
from experiments.datasets.published import Published
from experiments.datasets.source import Row, Table


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


@dataclass(frozen=True, kw_only=True)
class PublishedVideos(Published):
    """A benchmark about videos, whose files are in a folder beside its table.

    Parameters
    ----------
    frames
        Frames of each video, at uniform times from its first to its last.
    videos
        The folder of the videos; None: `usual_folder` below the Hugging Face home, as in the public implementation.
    """

    visual_columns: ClassVar[tuple[str, ...]] = ()
    usual_folder: ClassVar[str]
    archive: ClassVar[str]  # what to download, as a part of a sentence
    file_column: ClassVar[str]  # of the files' names
    endings: ClassVar[tuple[str, ...]] = ("",)  # that these may have in the folder

    frames: Count = 8
    videos: Text | Path | None = None

    def visual(self, table: Table, number: int, row: Row) -> Visual:
        return Video(self._folder.find(row.text(self.file_column), self.endings), frames=self.frames)

    def check_files(self) -> None:
        self._folder.check()

    @cached_property
    def _folder(self) -> VideoFolder:
        home = Path(os.environ.get("HF_HOME", "~/.cache/huggingface")).expanduser()
        path = Path(self.videos).expanduser() if self.videos else home / self.usual_folder
        return VideoFolder(path, f"download {self.archive}, and write dataset.videos=FOLDER.")
