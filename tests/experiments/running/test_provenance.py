"""What identifies a context that shows videos."""

import shutil
from pathlib import Path

import pytest

from emloc import Demonstration, UserError, Video
from experiments.running.provenance import demonstrations_id
from tests.support.videos import write_video


def test_a_context_of_videos_is_identified_by_their_files_and_frames(tmp_path: Path) -> None:
    path, other = write_video(tmp_path / "a.mp4", 8), write_video(tmp_path / "b.mp4", 9)
    copy = shutil.copy(path, tmp_path / "copy.mp4")
    videos = [Video(path, 8), Video(path, 4), Video(other, 8)]
    assert len({identity(video) for video in videos}) == 3
    assert identity(Video(copy, 8)) == identity(Video(path, 8))


def test_a_missing_video_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"gone\.mp4 is not one"):
        identity(Video(tmp_path / "gone.mp4"))


def identity(video: Video) -> str:
    return demonstrations_id([Demonstration(video, "What?", "this")])
