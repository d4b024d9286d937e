"""The embedded model's tokenizer: a small byte-level BPE with Qwen2-VL's special tokens and 256 one-token label words.

Label words are "zero" to "nine" and pronounceable code words, none a part of another. Every label is a single token
when it directly follows "assistant" and a newline, as in the chat text.
"""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path

import numpy as np
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

SPECIAL = (
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>",
    "<|image_pad|>", "<|video_pad|>",
)  # fmt: skip
SYSTEM = "You are a helpful assistant."
QUESTIONS = (
    "What is this?",
    "What category does the image above belong to?",
    "Which class is it?",
    "Name the object in the picture.",
    "What do you see here?",
    "Classify the image.",
    "Which label fits?",
)
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_SPLIT = r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
CHAT_TEMPLATE = (
    "{% for message in messages %}{% if loop.first and message['role'] != 'system' %}<|im_start|>system\n"
    "You are a helpful assistant.<|im_end|>\n{% endif %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' or 'image' in part or 'image_url' in part %}"
    "<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif part['type'] == 'video' or 'video' in part %}<|vision_start|><|video_pad|><|vision_end|>"
    "{% elif 'text' in part %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def label_words(count: int = 256, seed: int = 7) -> tuple[str, ...]:
    """The label words: the ten numbers, then code words of two to three syllables, none a substring of another."""
    rng = np.random.default_rng(seed)
    syllables = ["".join(pair) for pair in product("bdfgklmnprstvz", "aeiou")]
    taken = set(NUMBERS) | {word for text in (SYSTEM, *QUESTIONS) for word in text.lower().split()}
    words = list(NUMBERS)
    while len(words) < count:
        word = "".join(rng.choice(syllables, size=2))
        if word not in taken and not any(word in other or other in word for other in words):
            words.append(word)
    return tuple(words)


def _corpus() -> list[str]:
    """Texts that the merges are learned from: each word often enough to become one token."""
    texts = [*QUESTIONS, SYSTEM, "system\n", "user\n", "assistant\n", *(f"\n{word}" for word in label_words())]
    return [text for text in texts for _ in range(20)]


def make_tokenizer(vocabulary: int = 2000) -> PreTrainedTokenizerFast:
    """The tokenizer, trained on `_corpus` (deterministic; stops when every word is one token)."""
    tokenizer = Tokenizer(models.BPE())
    pieces = [
        pre_tokenizers.Split(Regex(_SPLIT), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(pieces)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        min_frequency=2,
        special_tokens=list(SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_corpus(), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=list(SPECIAL[1:]),
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
        model_max_length=32768,
    )


def label_ids(tokenizer: PreTrainedTokenizerFast) -> list[int]:
    """The token id of each label word, checked to be one token after "assistant" and a newline."""
    before = tokenizer("<|im_start|>assistant\n")["input_ids"]
    ids = []
    for word in label_words():
        after = tokenizer(f"<|im_start|>assistant\n{word}<|im_end|>")["input_ids"]
        if len(after) != len(before) + 2 or after[: len(before)] != before:
            raise ValueError(f"label {word!r} is not one token: {tokenizer.convert_ids_to_tokens(after)}")
        ids.append(after[len(before)])
    return ids


def save_labels(folder: Path) -> None:
    """`labels.json` beside the model: the list of label words."""
    (folder / "labels.json").write_text(json.dumps(label_words(), indent=0) + "\n")
