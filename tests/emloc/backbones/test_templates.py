"""Chat formats read off templates: layouts beyond those of our families, and templates that cannot be used."""

from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from emloc import Demonstration, Query, UserError
from emloc.backbones.templates import ImageText, chat_format
from emloc.prompt import ChatFormat, TokenKind
from tests.support import templates
from tests.support.families import FAMILIES
from tests.support.lively import random_image

ITEMS = [Demonstration(None, "What is this?", "A bird."), Query(None, "And this?")]

# Layouts of other instruction-tuned models, from their documentation; UNVERIFIED against the published files.
LLAMA3 = (
    "{{ '<s>' }}{% for m in messages %}{{ '<|' ~ m.role ~ '|>\n\n' ~ m.content | trim ~ '<|eot|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n\n' }}{% endif %}"
)
MISTRAL = (
    "{{ '<s>' }}{% for m in messages %}{% if m.role == 'user' %}{{ '[INST] ' ~ m.content ~ ' [/INST]' }}"
    "{% else %}{{ ' ' ~ m.content ~ '</s>' }}{% endif %}{% endfor %}"
)
GEMMA = (
    "{{ '<bos>' }}{% for m in messages %}{% set role = 'model' if m.role == 'assistant' else m.role %}"
    "{{ '<start_of_turn>' ~ role ~ '\n' ~ m.content ~ '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)


def tokenizer(template: str | None) -> PreTrainedTokenizerFast:
    found = FAMILIES[0].tokenizer()
    found.chat_template = template
    return found


def text(chat: ChatFormat, *, only: TokenKind | None = None) -> str:
    pieces = [*chat.system_turn(), *(piece for item in ITEMS for piece in chat.render(item))]
    return "".join(piece.text for piece in pieces if only is None or piece.kind == only)


@pytest.mark.parametrize(
    ("template", "opening", "answer"),
    [
        (LLAMA3, "<s>", "\nA bird.<"),
        (MISTRAL, "<s>", "] A bird.<"),
        (GEMMA, "<bos>", "\nA bird.<"),
        (templates.SMOLLM2, None, "\nA bird.<|im_end|>"),
    ],
    ids=["llama3", "mistral", "gemma", "chatml"],
)
def test_layouts(template: str, opening: str | None, answer: str) -> None:
    """The first token behind an answer belongs to it; in this tokenizer only ChatML's markers are single tokens."""
    found = tokenizer(template)
    chat = chat_format(found)
    messages: list[dict[str, Any]] = [
        {"role": "user", "content": "What is this?"},
        {"role": "assistant", "content": "A bird."},
        {"role": "user", "content": "And this?"},
    ]
    assert text(chat) == found.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert text(chat, only=TokenKind.ANSWER) == answer
    assert opening is None or "".join(piece.text for piece in chat.system_turn()) == opening


def test_users_texts_stay_plain_characters() -> None:
    """A marker in a question is no marker, in the format as in ChatML's."""
    chat = chat_format(tokenizer(templates.SMOLLM2))
    pieces = chat.demonstration(Demonstration(None, "<|im_end|>", "<|im_start|>"))
    assert [piece.text for piece in pieces if piece.literal] == ["<|im_end|>", "<|im_start|>"]


def test_qwens_format_is_that_of_its_template() -> None:
    """The family's own format, which does not read the template, says the same."""
    found = chat_format(tokenizer(templates.QWEN2_VL), ImageText("<|image_pad|>", "<|image_pad|>"))
    shown = [Demonstration(random_image(0), "What?", "This."), *ITEMS]
    one, other = (
        "".join(piece.text for piece in (*chat.system_turn(), *(p for item in shown for p in chat.render(item))))
        for chat in (found, ChatFormat())
    )
    assert one == other


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (None, "a chat template, but this one has none"),
        ("{{ raise_exception('no roles here') }}", "cannot be read .no roles here"),
        ("{% for m in messages", "cannot be read"),
        ("{% for m in messages %}{{ m.role }}{% endfor %}", "does not write 'one-text' where"),
        ("{% for m in messages %}{{ '<' ~ loop.index ~ m.content }}{% endfor %}", "a chat template that writes every"),
        ("{% for m in messages %}[{{ m.content | upper }}]{% endfor %}", "a chat template that writes every"),
    ],
)
def test_templates_that_cannot_be_used(template: str | None, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        chat_format(tokenizer(template))
    assert "\n" not in str(caught.value)


def test_a_text_template_for_a_model_that_reads_images() -> None:
    with pytest.raises(UserError, match="a chat template that writes every"):
        chat_format(tokenizer(templates.SMOLLM2), ImageText("<image>", "<image>"))
