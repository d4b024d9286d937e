"""Videos as visuals: a file and how many of its frames are looked at.

Frames are those of uniform times from the first to the last, decoded exactly. (The public reference seeks to the key
frame before each time and takes that, so that several of its frames may be one and the same.)
"""

from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from PIL import Image

from emloc.errors import UserError

# In others, such as MPEG streams, timestamps behind a seek may be wrong by some frames.
_MP4 = "mov,mp4,m4a,3gp,3g2,mj2"
_INDEXED = (_MP4, "matroska,webm")


@dataclass(frozen=True)
class Video:
    """A video file, seen as `frames` frames at uniform times from its first to its last frame.

    A video that has fewer frames repeats some.
    """

    path: Path
    frames: int = 8

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", Path(self.path))
        if not isinstance(self.frames, int) or isinstance(self.frames, bool) or self.frames < 1:
            raise UserError(f"Expected a video of 1 frame or more, but got frames={self.frames!r} for {self.path}.")


def read_frames(video: Video) -> Iterator[Image.Image]:
    """Decode the video's frames as RGB images of one size, one after the other; none is held here.

    The timestamps of all frames are read first, from the packets, so that frames are chosen by time whatever the
    frame rate does. Then the parts of the file that hold a chosen frame are decoded, each from its key frame on; a
    container that has no index to find them by is decoded from its beginning.

    Raises
    ------
    UserError
        While the frames are read: if the file is missing, no video or broken, or if PyAV is not installed.
    """
    times = _read_times(video.path)
    left = deque(_nearest_to_uniform(times.frames, video.frames))
    if times.keys:
        yield from _from_key_frames(video.path, times, left)
    if left:
        yield from _from_the_beginning(video.path, times, left)


@dataclass(frozen=True)
class _Times:
    """When the frames of a file are shown, ascending, in the stream's unit; their numbers if it does not say when."""

    frames: Sequence[int]
    keys: Sequence[int]  # those of key frames, if it is safe to start there
    stamped: bool

    def key_of(self, time: int) -> int:
        """The last key frame at or before `time`."""
        return self.keys[max(0, bisect_right(self.keys, time) - 1)]


@dataclass
class _Source:
    """An open file; `count` says how many frames have been read."""

    container: Any
    stream: Any
    count: int = 0

    def packets(self) -> Iterator[Any]:
        """Encoded frames, in the order of the file, which need not be the order of time."""
        for packet in self.container.demux(self.stream):
            if packet.size:
                self.count += 1
                yield packet

    def decoded(self, start: int | None = None) -> Iterator[Any]:
        """Frames in the order of time, from the key frame at `start`."""
        if start is not None:
            self.container.seek(start, stream=self.stream)
        for frame in self.container.decode(self.stream):
            self.count += 1
            yield frame

    def image(self, frame: Any) -> Image.Image:
        """RGB, in the stream's size, as the size of frames may change on the way; turned as the file says."""
        image = frame.to_image(width=self.stream.width, height=self.stream.height)
        return image.rotate(frame.rotation, expand=True) if frame.rotation else image


@contextmanager
def _opened(path: Path) -> Iterator[_Source]:
    av = _pyav()
    if not path.is_file():
        raise UserError(f"Expected a video file, but {path} does not exist; correct the path or get the file.")
    source = None
    try:
        with av.open(str(path)) as container:
            stream = container.streams.best("video")
            if stream is None:
                raise UserError(f"Expected a video file, but {path} has no video stream; replace or remove it.")
            stream.thread_type = "AUTO"
            source = _Source(container, stream)
            yield source
    except av.error.FFmpegError as error:
        state = "is not one" if source is None else f"is broken after {source.count} frames"
        raise UserError(
            f"Expected a readable video file, but {path} {state} ({error.strerror}); replace or remove it."
        ) from error


def _pyav() -> ModuleType:
    try:
        import av
    except ImportError:
        raise UserError(
            "Expected PyAV to be installed for reading videos, but it is not; pip install 'emloc[video]'."
        ) from None
    return av


def _read_times(path: Path) -> _Times:
    with _opened(path) as source:
        stamps = [(packet.pts, packet.is_keyframe, packet.is_discard) for packet in source.packets()]
        kind = source.container.format.name
        if kind == _MP4:
            _check_whole(path, source.stream.index_entries)
    shown = [time for time, _, is_hidden in stamps if not is_hidden]  # the others only serve to decode these
    if not shown:
        raise _no_frames(path)
    if kind == "avi" or any(time is None for time, *_ in stamps):  # AVI knows the order of decoding and the rate
        return _Times(range(len(shown)), (), stamped=False)
    keys = sorted(time for time, is_key, _ in stamps if is_key) if kind in _INDEXED else []
    return _Times(sorted(shown), keys, stamped=True)


def _check_whole(path: Path, index: Iterable[Any]) -> None:
    """UserError if the frames in a file's index do not all lie within the file: a download that broke off."""
    size = path.stat().st_size
    ends = [entry.pos + entry.size for entry in index]
    if ends and max(ends) > size:
        there = sum(end <= size for end in ends)
        raise UserError(
            f"Expected a whole video file, but {path} ends after {there} of {len(ends)} frames; get the file again."
        )


def _no_frames(path: Path) -> UserError:
    return UserError(f"Expected a readable video file, but {path} has no frames; replace or remove it.")


def _nearest_to_uniform(times: Sequence[int], count: int) -> list[int]:
    """For `count` uniform times from the first to the last of `times` the nearest of `times`; of two the earlier."""
    known = np.asarray(times)
    nearest = [int(np.abs(known - time).argmin()) for time in np.linspace(known[0], known[-1], count)]
    return known[nearest].tolist()


def _from_key_frames(path: Path, times: _Times, left: deque[int]) -> Iterator[Image.Image]:
    """Frames at the times `left`, which it takes away; stops before a frame that seeking does not lead to."""
    with _opened(path) as source:
        reached = True
        while left and reached:
            key, reached = times.key_of(left[0]), False
            for frame in source.decoded(key):
                if frame.pts == left[0]:
                    reached = True
                    yield from _repeated(source.image(frame), frame.pts, left)
                if not left or frame.pts > left[0] or times.key_of(left[0]) != key:
                    break


def _from_the_beginning(path: Path, times: _Times, left: deque[int]) -> Iterator[Image.Image]:
    """The frame at or after each of the times `left`; the last one where the decoder gives fewer than were stamped."""
    with _opened(path) as source:
        frame = None
        for number, frame in enumerate(source.decoded()):
            time = frame.pts if times.stamped else number
            if time >= left[0]:
                yield from _repeated(source.image(frame), time, left)
            if not left:
                return
        if frame is None:
            raise UserError(
                f"Expected a readable video file, but {path} is broken after 0 frames; replace or remove it."
            )
        yield from [source.image(frame)] * len(left)


def _repeated(image: Image.Image, time: int, left: deque[int]) -> Iterator[Image.Image]:
    """The image, once for each of the times `left` up to `time`."""
    while left and left[0] <= time:
        left.popleft()
        yield image
