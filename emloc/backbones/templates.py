"""The chat format of a checkpoint, read off its own chat template.

A template is a program, so it is asked: a conversation of marked texts is rendered, and what is between the marks is
the format. Another conversation then has to come out the same by the format and by the template.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import TemplateError
from transformers import AutoTokenizer
from transformers.utils import cached_file

from emloc.checkpoint import LoadOptions
from emloc.errors import UserError
from emloc.prompt import ChatFormat, Demonstration, Query

_FIRST, _SECOND, _THIRD, _ANSWER_ONE, _ANSWER_TWO = (f"{word}-text" for word in ("one", "two", "three", "four", "five"))
_SHOWN = Path("an image that is not opened")
Item = Demonstration | Query


class ImageText(NamedTuple):
    """How a family's processor writes an image: `before`, one `token` per feature, `after`."""

    marker: str  # what the chat template writes in place of all that
    token: str
    before: str = ""
    after: str = ""

    def expanded(self, text: str) -> str:
        """A template's text with every image written out, as an image of one feature."""
        return text.replace(self.marker, f"{self.before}{self.token}{self.after}")


def read_tokenizer(source: str | Path, options: LoadOptions) -> Any:
    """The tokenizer of a checkpoint, with its chat template; UserError if it has none."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=options.trust_remote_code, **options.where)
    except ValueError as error:
        if "backend tokenizer" not in str(error):
            raise
        tokenizer = None
    # Without its files transformers finds no class for some families, and for others makes an empty one.
    if tokenizer is None or not tokenizer("a", add_special_tokens=False).input_ids:
        raise UserError(
            f"Expected a complete checkpoint, but {source} has no tokenizer (tokenizer.json); download it again."
        )
    tokenizer.chat_template = read_template(source, tokenizer, **options.where)
    return tokenizer


def read_template(source: str | Path, tokenizer: Any, **settings: Any) -> str | None:
    """The chat template of a checkpoint: older ones of multimodal models have a file for it, others the tokenizer's."""
    path = cached_file(
        str(source),
        "chat_template.json",
        **settings,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
    )
    return tokenizer.chat_template if path is None else json.loads(Path(path).read_text())["chat_template"]


def chat_format(tokenizer: Any, image: ImageText | None = None) -> ChatFormat:
    """The format that the tokenizer's chat template writes; `image` None for a model that reads text only.

    Raises
    ------
    UserError
        If there is no template, or it does not write all user and assistant turns alike.
    """
    if not tokenizer.chat_template:
        raise UserError(
            "Expected a checkpoint with a chat template, but this one has none; take an instruction-tuned model, or "
            "set tokenizer.chat_template and hand the loaded model to Backbone.from_model."
        )
    try:
        found = _read(tokenizer, image)
        same = all(_template_text(tokenizer, items, image) == _text(found, items) for items in _samples(image))
    except (TemplateError, ValueError, TypeError, KeyError, _MisplacedError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise _unreadable(f"this one cannot be read ({first})") from error
    if not same:
        raise _unreadable("this one writes some turns in another way than others")
    return found


class _MisplacedError(Exception):
    """A marked text is not where the template should have put it."""


def _read(tokenizer: Any, image: ImageText | None) -> ChatFormat:
    """The format, from one conversation without and, if the model reads images, one with an image."""
    shown = [Demonstration(None, _FIRST, _ANSWER_ONE), Demonstration(None, _SECOND, _ANSWER_TWO)]
    opening, to_answer, between, _, _, prompt = _parts(
        _template_text(tokenizer, [*shown, Query(None, _THIRD)], None, listed=image is not None),
        _FIRST, _ANSWER_ONE, _SECOND, _ANSWER_TWO, _THIRD,
    )  # fmt: skip
    closing = _parts(_template_text(tokenizer, shown, None, listed=image is not None), _ANSWER_TWO)[-1]
    if not between.startswith(closing):
        raise _MisplacedError("a turn ends in another way in the middle than at the end")
    user_open = between.removeprefix(closing)
    user_close, answer_open = _cut(tokenizer, to_answer.rstrip(" "), last=True)
    turn_close, turn_end = _cut(tokenizer, closing, last=False)
    chat = ChatFormat(
        system="", system_open=opening.removesuffix(user_open), system_close="", user_open=user_open,
        image_open="", image_token="", video_token="", image_close="", user_close=user_close,
        answer_open=answer_open + " " * (len(to_answer) - len(to_answer.rstrip(" "))),
        prompt=prompt, turn_close=turn_close, turn_end=turn_end,
    )  # fmt: skip
    return chat if image is None else _with_image(chat, tokenizer, image)


def _with_image(chat: ChatFormat, tokenizer: Any, image: ImageText) -> ChatFormat:
    rendered = _template_text(tokenizer, [Query(_SHOWN, _FIRST)], None, listed=True)
    before, after, _ = _parts(rendered, image.marker, _FIRST)
    return replace(
        chat,
        visual_header=before.removeprefix(chat.system_open),
        image_open=image.before,
        image_token=image.token,
        image_close=image.after + after,
    )


def _parts(text: str, *marks: str) -> list[str]:
    """What is in front of, between and behind the marks, which must come in this order."""
    found = []
    for mark in marks:
        before, here, text = text.partition(mark)
        if not here:
            raise _MisplacedError(f"it does not write {mark!r} where it should be")
        found.append(before)
    return [*found, text]


def _cut(tokenizer: Any, text: str, *, last: bool) -> tuple[str, str]:
    """The text cut in front of its last token, or behind its first one."""
    offsets = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True).offset_mapping
    at = (offsets[-1][0] if last else offsets[0][1]) if offsets else 0
    return text[:at], text[at:]


def _template_text(
    tokenizer: Any, items: Sequence[Item], image: ImageText | None, *, listed: bool | None = None
) -> str:
    """What the template makes of the items, behind a query with the prompt for its answer.

    `listed`: messages are lists of parts, as templates of multimodal models want them; by default if there is `image`.
    """
    parts = image is not None if listed is None else listed
    messages = [message for item in items for message in _messages(item, parts=parts)]
    # Models that think before they answer are asked not to: demonstrations show answers alone.
    text = tokenizer.apply_chat_template(
        messages, tokenize=False, add_generation_prompt=isinstance(items[-1], Query), enable_thinking=False
    )
    return image.expanded(text) if image else text


def _messages(item: Item, *, parts: bool) -> list[dict[str, Any]]:
    said = [("user", item.question)] + ([("assistant", item.answer)] if isinstance(item, Demonstration) else [])
    if not parts:
        return [{"role": role, "content": text} for role, text in said]
    messages: list[dict[str, Any]] = [
        {"role": role, "content": [{"type": "text", "text": text}]} for role, text in said
    ]
    if item.visual is not None:
        messages[0]["content"].insert(0, {"type": "image"})
    return messages


def _text(chat: ChatFormat, items: Sequence[Item]) -> str:
    """The same items by a format."""
    return "".join(piece.text for piece in (*chat.system_turn(), *(p for item in items for p in chat.render(item))))


def _samples(image: ImageText | None) -> list[list[Item]]:
    """Conversations to compare format and template on, with and without images."""
    visual = None if image is None else _SHOWN
    one, two = Demonstration(visual, "What is 1 + 1?", "It is 2."), Demonstration(None, "And 2 + 2?", "4")
    return [[one, two, Query(visual, "And this?")], [Query(visual, "This?")], [two, one, two, Query(None, "This?")]]


def _unreadable(reason: str) -> UserError:
    return UserError(
        f"Expected a chat template that writes every user and assistant turn alike, but {reason}; set another "
        "tokenizer.chat_template and hand the loaded model to Backbone.from_model."
    )
