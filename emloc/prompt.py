"""Demonstrations, queries, and how they are written as chat text.

A turn is rendered as a list of `Piece`s. Every piece knows what it is (image, question or answer), so answer
spans are found by construction and never by searching for a token id: user text that happens to contain the word
"assistant" or a marker such as ``<|im_end|>`` cannot move them.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from PIL import Image

from emloc.errors import UserError
from emloc.video import Video, read_frames

ImageLike = Image.Image | Path | Callable[[], Image.Image]  # the last reads it when it is used
Visual = ImageLike | Video


class TokenKind(IntEnum):
    """What a context token is part of; the statistics of kept tokens are grouped by it."""

    QUESTION = 0  # user text, chat markers, system turn
    IMAGE = 1  # one visual token, of an image or a video
    ANSWER = 2  # the token that predicts the first answer token, the answer, end of turn


@dataclass(frozen=True)
class Demonstration:
    """One solved example: an image (or a path to one, or a video, or None), a question and its answer."""

    visual: Visual | None
    question: str
    answer: str
    id: str = ""


@dataclass(frozen=True)
class Query:
    """One example to be answered."""

    visual: Visual | None
    question: str
    id: str = ""


@dataclass(frozen=True)
class Piece:
    """A stretch of a rendered turn. `literal` text is user text: marker strings in it are plain characters."""

    text: str
    kind: TokenKind = TokenKind.QUESTION
    literal: bool = False


@dataclass(frozen=True)
class ChatFormat:
    """The texts around system message, visual, question and answer; special tokens in them are read as such.

    The defaults are the ChatML layout of Qwen2-VL (that of the public reference, see `tests/emloc/test_prompt.py`): the
    visual comes first in the user turn, followed by the question without a separator. Other families take their texts
    from the checkpoint's chat template.

    Attributes
    ----------
    system
        The system message. It is user text: markers in it are plain characters.
    visual_header
        In place of `user_open` where the turn has a visual; None: the same.
    user_close
        What follows a question, up to the token that predicts the first token of its answer.
    answer_open
        The token that predicts the first token of an answer.
    prompt
        What follows a question that is to be answered; None: `user_close` and `answer_open`.
    """

    system: str = "You are a helpful assistant."
    system_open: str = "<|im_start|>system\n"
    system_close: str = "<|im_end|>\n"
    user_open: str = "<|im_start|>user\n"
    visual_header: str | None = None
    image_open: str = "<|vision_start|>"
    image_token: str = "<|image_pad|>"
    video_token: str = "<|video_pad|>"
    image_close: str = "<|vision_end|>"
    user_close: str = "<|im_end|>\n<|im_start|>assistant"
    answer_open: str = "\n"
    prompt: str | None = None
    turn_close: str = "<|im_end|>"
    turn_end: str = "\n"

    @property
    def answer_indent(self) -> str:
        """The spaces that every answer begins with: tokenizers join them to the answer's first word."""
        return _spaces_behind(self.answer_open)

    def system_turn(self) -> list[Piece]:
        """The system turn; it opens a context, or a query that has no context. Some formats have none."""
        pieces = [Piece(self.system_open), Piece(self.system, literal=True), Piece(self.system_close)]
        return [piece for piece in pieces if piece.text]

    def render(self, item: Demonstration | Query) -> list[Piece]:
        """The turns of a demonstration or of a query."""
        return self.demonstration(item) if isinstance(item, Demonstration) else self.query(item)

    def demonstration(self, item: Demonstration) -> list[Piece]:
        """User turn and assistant turn of a demonstration, its answer tokens marked."""
        answer = TokenKind.ANSWER
        return [
            *self.opening(item),
            *self._question(item),
            Piece(self.user_close),
            *_text_behind(Piece(self.answer_open, answer), item.answer),
            Piece(self.turn_close, answer),
            *([Piece(self.turn_end)] if self.turn_end else []),
        ]

    def query(self, item: Query) -> list[Piece]:
        """User turn of a query and the opening of the assistant's answer (the generation prompt)."""
        return [*self.opening(item), *self.tail(item)]

    def opening(self, item: Demonstration | Query) -> list[Piece]:
        """The user turn up to its question: the user's header and the visual."""
        header = self.user_open if item.visual is None or self.visual_header is None else self.visual_header
        return [Piece(header.rstrip(" ") if item.visual is None else header), *self._visual(item)]

    def tail(self, item: Query) -> list[Piece]:
        """What follows `opening` in a query: the question and the opening of the assistant's answer."""
        if self.prompt is not None:
            return [*self._question(item), Piece(self.prompt)]
        return [*self._question(item), Piece(self.user_close), Piece(self.answer_open.rstrip(" "))]

    def _question(self, item: Demonstration | Query) -> list[Piece]:
        """The question; the spaces that end the header before it go with it."""
        before = self.user_open if item.visual is None else self.image_close
        return [Piece(_spaces_behind(before) + item.question, literal=True)]

    def _visual(self, item: Demonstration | Query) -> list[Piece]:
        if item.visual is None:
            return []
        token = self.video_token if isinstance(item.visual, Video) else self.image_token
        parts = [Piece(self.image_open), Piece(token, TokenKind.IMAGE), Piece(self.image_close.rstrip(" "))]
        return [piece for piece in parts if piece.text]


def _text_behind(header: Piece, text: str) -> list[Piece]:
    """A header and user text behind it. Spaces at the header's end go with the text, as tokenizers have it."""
    return [
        Piece(header.text.rstrip(" "), header.kind),
        Piece(_spaces_behind(header.text) + text, header.kind, literal=True),
    ]


def _spaces_behind(header: str) -> str:
    return header[len(header.rstrip(" ")) :]


def load_frames(visual: Visual) -> Iterator[Image.Image]:
    """The RGB frames of a visual, read one after the other as they are asked for; an image is its own only frame.

    Raises
    ------
    UserError
        As `load_image` and `read_frames`, once the first frame is asked for.
    """
    if isinstance(visual, Video):
        yield from read_frames(visual)
    else:
        yield load_image(visual)


def load_image(image: ImageLike) -> Image.Image:
    """Return the RGB image, reading it if a path or a function that reads it is given.

    Raises
    ------
    UserError
        If the file is missing or is not a readable image; the message names the file.
    """
    if isinstance(image, Image.Image):
        return image.convert("RGB")
    if not isinstance(image, Path):
        return image().convert("RGB")
    try:
        with Image.open(image) as opened:
            return opened.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(
            f"Expected a readable image file, but {image} is not one ({error}); replace or remove it."
        ) from error
