"""Frames of a video: which, and what is said of files that have none."""

import struct
import sys
import wave
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from emloc import UserError, Video
from emloc.prompt import load_frames
from emloc.video import _read_times, _Source, _Times, read_frames
from tests.support.videos import number_of, write_video


def numbers(path: Path, frames: int) -> list[int]:
    return [number_of(image) for image in read_frames(Video(path, frames))]


def uniform(last: int, count: int) -> list[int]:
    return [round(last * step / (count - 1) - 1e-9) for step in range(count)]


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("a.mp4", "libx264"), ("a.mkv", "libx264"), ("a.webm", "libvpx-vp9"), ("a.ts", "libx264"), ("a.mov", "mpeg4"),
        ("a.mpg", "mpeg2video"), ("a.avi", "libx264"), ("a.avi", "mpeg4"), ("a.h264", "libx264"),
    ],
)  # fmt: skip
def test_frames_are_exactly_those_of_uniform_times(tmp_path: Path, name: str, codec: str) -> None:
    path = write_video(tmp_path / name, 100, codec=codec, b_frames=0 if "vp9" in codec else 2)
    for count in (2, 7, 12, 33):
        assert numbers(path, count) == uniform(99, count)


def test_key_frames_do_not_attract(tmp_path: Path) -> None:
    """What the test above needs: key frames are rarer than the chosen frames, and some frames depend on later ones."""
    with av.open(str(write_video(tmp_path / "a.mp4", 100))) as container:
        types = Counter(av.video.frame.PictureType(frame.pict_type).name for frame in container.decode(video=0))
    assert types["I"] == 9
    assert types["B"] > 20


def test_times_count_where_the_frame_rate_varies(tmp_path: Path) -> None:
    """Twenty frames in the first second, then one a second."""
    times = [50 * number for number in range(20)] + [1000 * number for number in range(1, 10)]
    path = write_video(tmp_path / "a.mp4", len(times), times=times)
    chosen = [int(np.abs(np.array(times) - time).argmin()) for time in np.linspace(0, 9000, 7)]
    assert numbers(path, 7) == chosen != uniform(len(times) - 1, 7)


@pytest.mark.parametrize("name", ["a.mp4", "a.avi"])
def test_short_videos_repeat_frames(tmp_path: Path, name: str) -> None:
    path = write_video(tmp_path / name, 3)
    assert numbers(path, 8) == [0, 0, 1, 1, 1, 1, 2, 2]
    assert numbers(path, 1) == [0]
    assert numbers(write_video(tmp_path / f"one-{name}", 1), 4) == [0, 0, 0, 0]


def test_frames_are_rgb_images_of_one_size(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", 5, size=(64, 48))
    assert {(image.mode, image.size) for image in load_frames(Video(path, 4))} == {("RGB", (64, 48))}
    assert [image.size for image in load_frames(Image.new("L", (5, 4)))] == [(5, 4)]


def test_frames_that_a_cut_without_decoding_hides_are_not_chosen(tmp_path: Path) -> None:
    """The cut begins at frame 17; frames 12 to 16, from the key frame on, are in the file to decode it."""
    step, path = 512, tmp_path / "cut.mp4"
    with av.open(str(write_video(tmp_path / "a.mp4", 40))) as whole, av.open(str(path), "w") as cut:
        stream = cut.add_stream_from_template(whole.streams.video[0])
        for packet in list(whole.demux(video=0))[12:-1]:
            packet.pts, packet.dts, packet.stream = packet.pts - 17 * step, packet.dts - 17 * step, stream
            cut.mux(packet)
    assert numbers(path, 23) == list(range(17, 40))
    assert _read_times(path).key_of(0) == -5 * step


def test_frames_are_turned_as_a_telephone_wrote_them(tmp_path: Path) -> None:
    """A quarter turn to the right in the track's header: what was on the left is on top."""
    content = write_video(tmp_path / "a.mp4", 2, size=(48, 32), noise=True).read_bytes()
    (upright, *_), one = read_frames(Video(tmp_path / "a.mp4", 2)), 1 << 16
    header = content.index(b"tkhd")
    plain, turned = (struct.pack(">9i", *m, 0, 0, 1 << 30) for m in ((one, 0, 0, 0, one, 0), (0, one, 0, -one, 0, 0)))
    (tmp_path / "b.mp4").write_bytes(content[:header] + content[header:].replace(plain, turned, 1))
    image, *_ = read_frames(Video(tmp_path / "b.mp4", 2))
    assert image.size == (32, 48)
    assert np.array_equal(np.asarray(image), np.rot90(np.asarray(upright), k=-1))


def test_only_what_leads_to_a_chosen_frame_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_video(tmp_path / "a.mp4", 200)
    decoded = []
    plain = _Source.decoded

    def counting(self: _Source, start: int | None = None) -> Iterator[Any]:
        for frame in plain(self, start):
            decoded.append(frame.pts)
            yield frame

    monkeypatch.setattr(_Source, "decoded", counting)
    assert numbers(path, 3) == [0, 99, 199]
    assert len(decoded) <= 3 * 12
    decoded.clear()
    assert numbers(path, 200) == list(range(200))
    assert len(decoded) <= 200 + 17  # a key frame that shows that the next wanted frame is not of this group


def test_a_container_that_leads_elsewhere_is_read_from_the_beginning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_video(tmp_path / "a.mp4", 50)
    times = _read_times(path)
    for wrong in (times.frames[-2:-1], [times.frames[0], times.frames[36]]):
        monkeypatch.setattr("emloc.video._read_times", lambda _, wrong=wrong: _Times(times.frames, wrong, True))
        assert numbers(path, 8) == uniform(49, 8)


def test_frames_that_the_decoder_leaves_out_are_replaced_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_video(tmp_path / "a.mp4", 20)
    step = _read_times(path).frames[1]
    more = _Times([step * half // 2 for half in range(60)], [0], True)  # stamps between the frames, and behind the last
    monkeypatch.setattr("emloc.video._read_times", lambda _: more)
    assert numbers(path, 60) == [min(19, (half + 1) // 2) for half in range(60)]


def test_what_is_wrong_with_a_file_is_one_sentence(tmp_path: Path) -> None:
    whole = write_video(tmp_path / "whole.mp4", 100, options={"movflags": "faststart"}).read_bytes()
    middle = len(whole) // 2
    files = {
        "noise.mp4": (b"not a video at all" * 99, "Expected a readable video file, but .* is not one"),
        "empty.mp4": (b"", "is not one"),
        "cut.mp4": (whole[:-middle], r"ends after \d\d of 100 frames; get the file again"),
        "beginning.mp4": (whole[:100], "has no video stream|is not one"),
        "hole.mp4": (whole[:middle] + b"\xa5" * 1000 + whole[middle + 1000 :], r"is broken after \d+ frames"),
    }
    for name, (content, sentence) in files.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=sentence) as caught:
            numbers(tmp_path / name, 12)
        assert str(tmp_path / name) in str(caught.value)
    with pytest.raises(UserError, match=r"missing.mp4 does not exist"):
        numbers(tmp_path / "missing.mp4", 4)
    with pytest.raises(UserError, match="does not exist"):
        numbers(tmp_path, 4)


def test_sound_alone_is_no_video(tmp_path: Path) -> None:
    with wave.open(str(tmp_path / "a.wav"), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes(bytes(8000))
    with pytest.raises(UserError, match=r"a.wav has no video stream"):
        numbers(tmp_path / "a.wav", 4)


def test_without_pyav_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(UserError, match=r"pip install 'emloc\[video\]'"):
        numbers(tmp_path / "a.mp4", 4)


@pytest.mark.parametrize("frames", [0, -1, True, 2.5, "8"])
def test_impossible_numbers_of_frames_are_refused(frames: Any) -> None:
    with pytest.raises(UserError, match="1 frame or more"):
        Video(Path("a.mp4"), frames)
