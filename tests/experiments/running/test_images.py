"""Images of demonstrations: what identifies a context, and that each is read once."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from emloc import Demonstration, UserError, Video, load_backbone
from experiments.running.images import Watched
from tests.support.checkpoints import make_checkpoint
from tests.support.lively import demonstrations, random_image
from tests.support.runs import execute, image_folder
from tests.support.videos import write_video

pytest_plugins = ["tests.support.run_fixtures"]


def test_demonstrations_id_depends_on_everything() -> None:
    items = demonstrations(3)
    changed = [
        items[::-1],
        items[:2],
        [replace(items[0], answer="x"), *items[1:]],
        [replace(items[0], question="x"), *items[1:]],
        [replace(items[0], visual=items[1].visual), *items[1:]],
    ]
    ids = {Watched(some).id() for some in [items, *changed]}
    assert len(ids) == 1 + len(changed)
    assert Watched(demonstrations(3)).id() == Watched(items).id()


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
    return Watched([Demonstration(video, "What?", "this")]).id()


def counted(images: list[Image.Image]) -> tuple[list[Demonstration], list[int]]:
    """Demonstrations that note every reading of their images."""
    read: list[int] = []

    def reader(number: int, image: Image.Image) -> Callable[[], Image.Image]:
        return lambda: read.append(number) or image

    return [Demonstration(reader(n, image), "What?", "this") for n, image in enumerate(images)], read


def test_who_encodes_reads_for_the_digest_too(tmp_path: Path) -> None:
    images = [random_image(seed) for seed in range(4)]
    items, read = counted(images)
    watched = Watched(items, pictured=True)
    load_backbone(make_checkpoint(tmp_path / "model", layers=1), device="cpu").encode(watched.demonstrations)
    plain = [Demonstration(image, "What?", "this") for image in images]
    assert watched.id() == Watched(plain).id()
    assert read == [0, 1, 2, 3]
    assert [watched.pictures[number].size for number in range(4)] == [(16, 16)] * 4


def test_images_read_out_of_order_or_not_at_all_are_in_the_digest_once() -> None:
    images = [random_image(seed) for seed in range(4)]
    plain = Watched([Demonstration(image, "What?", "this") for image in images]).id()
    items, read = counted(images)
    watched = Watched(items)
    for number in (2, 0, 2):
        watched.demonstrations[number].visual()
    assert watched.id() == plain
    assert sorted(set(read)) == [0, 1, 2, 3]


def test_a_run_opens_every_image_file_once(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Demonstrations and queries, with small pictures of what was kept besides."""
    opened: list[str] = []
    plain = Image.open

    def noting(file: object, *arguments: object, **more: object) -> Image.Image:
        if isinstance(file, Path):
            opened.append(str(file))
        return plain(file, *arguments, **more)

    data = image_folder(tmp_path / "data")
    monkeypatch.setattr(Image, "open", noting)
    execute(
        f"model.path={checkpoint}", "dataset=image_folder", f"dataset.root={data}", "shots=6", "chunk_size=4",
        "device=cpu", "save_kept=true", f"hydra.run.dir={tmp_path / 'run'}",
    )  # fmt: skip
    assert len(opened) == len(set(opened)) == 6 + 12
