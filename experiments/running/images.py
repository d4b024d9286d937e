"""Images of demonstrations, each read once: the model encodes them, and the run needs to know what they were."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from PIL import Image

from emloc.errors import UserError
from emloc.prompt import Demonstration, Visual, load_image
from emloc.video import Video

_EDGE = 96  # pixels, the longer side of a small picture at most


class Watched:
    """Demonstrations that are hashed, and pictured if wanted, while somebody else reads their images.

    Attributes
    ----------
    demonstrations
        The same, but reading an image of theirs is noticed here. To be read in their order; one that was passed over
        is read here, and a second reading counts for nothing.
    pictures
        Small copies of the images that were read, by the demonstration's number; empty unless `pictured`.
    """

    def __init__(self, demonstrations: Sequence[Demonstration], *, pictured: bool = False) -> None:
        self._given = demonstrations
        self._pictured = pictured
        self._digest = hashlib.sha256()
        self._hashed = 0  # demonstrations that are in the digest
        self.pictures: dict[int, Image.Image] = {}
        self.demonstrations = [self._noticed(number, item) for number, item in enumerate(demonstrations)]

    def id(self) -> str:
        """Hash of ids, questions, answers and what is shown, in order: equal ids mean equal contexts.

        Of an image its pixels count, of a video the bytes of its file and the number of frames.
        """
        self._hash_up_to(len(self._given))
        return self._digest.hexdigest()[:16]

    def _noticed(self, number: int, item: Demonstration) -> Demonstration:
        if item.visual is None or isinstance(item.visual, Video):
            return item
        return replace(item, visual=partial(self._read, number, item.visual))

    def _read(self, number: int, visual: Visual) -> Image.Image:
        assert not isinstance(visual, Video)
        image = load_image(visual)
        if number >= self._hashed:
            self._hash_up_to(number)
            self._hash(number, image)
        if self._pictured:
            self.pictures[number] = small(image)
        return image

    def _hash_up_to(self, count: int) -> None:
        while self._hashed < count:
            visual = self._given[self._hashed].visual
            image = None if visual is None or isinstance(visual, Video) else load_image(visual)
            self._hash(self._hashed, image)

    def _hash(self, number: int, image: Image.Image | None) -> None:
        item = self._given[number]
        self._digest.update(repr((item.id, item.question, item.answer)).encode())
        if image is not None:
            self._digest.update(repr(image.size).encode() + image.tobytes())
        elif isinstance(item.visual, Video):
            self._digest.update(_video_bytes(item.visual))
        self._hashed = number + 1


def small(image: Image.Image) -> Image.Image:
    """A copy whose longer side has at most 96 pixels."""
    copy = image.copy()
    copy.thumbnail((_EDGE, _EDGE))
    return copy


def _video_bytes(video: Video) -> bytes:
    try:
        with video.path.open("rb") as file:
            return repr(video.frames).encode() + hashlib.file_digest(file, "sha256").digest()
    except OSError as error:
        raise UserError(
            f"Expected a readable video file, but {video.path} is not one ({error}); correct the path or get the file."
        ) from error
