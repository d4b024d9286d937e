"""Chat templates for tests, one per family.

Each is a short template that writes what the published one of the checkpoint named writes for turns of user and
assistant; tools, system messages of one's own and the like are left out. SmolLM2's was compared with the published
file, SmolVLM's is the one that transformers holds. The others are UNVERIFIED: the published files were not at hand;
they follow public renderings of them.
"""

from transformers.models.smolvlm.processing_smolvlm import DEFAULT_CHAT_TEMPLATE as SMOLVLM

_CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' ~ message.role ~ '\n' }}BODY{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}PROMPT{% endif %}"
)
_TEXT = "{{ message.content }}"


def _parts(image: str) -> str:
    """Contents that are lists of parts, an image written as `image`."""
    return (
        "{% for part in message.content %}{% if part.type == 'image' %}{{ '"
        + image
        + "' }}{% else %}{{ part.text }}{% endif %}{% endfor %}"
    )


def _chatml(body: str, *, system: str = "", prompt: str = "") -> str:
    opening = f"{{{{ '<|im_start|>system\n{system}<|im_end|>\n' }}}}" if system else ""
    return opening + _CHATML.replace("BODY", body).replace("PROMPT", prompt)


# HuggingFaceTB/SmolLM2-135M-Instruct, tokenizer_config.json
SMOLLM2 = _chatml(_TEXT, system="You are a helpful AI assistant named SmolLM, trained by Hugging Face")

# Qwen/Qwen2.5-7B-Instruct, tokenizer_config.json
QWEN2 = _chatml(_TEXT, system="You are Qwen, created by Alibaba Cloud. You are a helpful assistant.")

# Qwen/Qwen3-4B, tokenizer_config.json: an answer behind the last question has its thoughts with it, others have not.
QWEN3 = _chatml(
    "{% if message.role == 'assistant' and loop.last %}{{ '<think>\n\n</think>\n\n' }}{% endif %}" + _TEXT,
    prompt="{% if enable_thinking is defined and enable_thinking is false %}{{ '<think>\n\n</think>\n\n' }}{% endif %}",
)

# Qwen/Qwen2-VL-7B-Instruct and Qwen/Qwen2.5-VL-7B-Instruct, chat_template.json
QWEN2_VL = _chatml(_parts("<|vision_start|><|image_pad|><|vision_end|>"), system="You are a helpful assistant.")

# Qwen/Qwen3-VL-4B-Instruct, chat_template.json: no system message of its own
QWEN3_VL = _chatml(_parts("<|vision_start|><|image_pad|><|vision_end|>"))

# OpenGVLab/InternVL3_5-1B-HF, chat_template.jinja, written by transformers' conversion script
INTERNVL = _chatml(_parts("<IMG_CONTEXT>\n"))

# llava-hf/llava-onevision-qwen2-7b-ov-hf, chat_template.json: a space behind the role, a line break before each text
LLAVA_ONEVISION = (
    "{% for message in messages %}{{ '<|im_start|>' ~ message.role ~ ' ' }}"
    "{% for part in message.content if part.type == 'image' %}{{ '<image>' }}{% endfor %}"
    "{% for part in message.content if part.type == 'text' %}{{ '\n' ~ part.text }}{% endfor %}{{ '<|im_end|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

__all__ = ["INTERNVL", "LLAVA_ONEVISION", "QWEN2", "QWEN2_VL", "QWEN3", "QWEN3_VL", "SMOLLM2", "SMOLVLM"]
