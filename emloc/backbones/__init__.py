"""Model families on stock transformers: `base` says what one must offer; one file each, found by its `model_types`.

Read `decoder` (running decoder layers), `base` (encoding and answering), `templates` (chat formats), then a family.
"""

from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING

from emloc.errors import UserError, nearest

if TYPE_CHECKING:
    from emloc.backbones.base import Backbone

# Families that cannot be read exactly, and why; others are just not there.
_WINDOWS = "most of its layers see only a sliding window of the context"
_REFUSED = {
    "gemma3": f"{_WINDOWS}, and an image's tokens see each other both ways",
    "gemma3_text": _WINDOWS,
    "gemma4": f"{_WINDOWS}, and its last layers reuse the keys and values of others",
    "qwen3_5": "most of its layers keep a state instead of keys and values",
}


@cache
def families() -> "dict[str, type[Backbone]]":
    """The backbone class for every model type that can be read: each file of this package names its own."""
    return {model_type: family for family in _family_classes() for model_type in family.model_types}


def family_for(model_type: str, source: object) -> "type[Backbone]":
    """The family of a checkpoint with this model type; UserError, naming `source`, if there is none."""
    known = families()
    if model_type not in known:
        why = f", and {_REFUSED[model_type]}" if model_type in _REFUSED else ""
        raise UserError(
            f"Expected a checkpoint of a supported family ({', '.join(sorted(known))}), but {source} is "
            f"{model_type!r}{why}.{nearest(model_type, known)}"
        )
    return known[model_type]


def _family_classes() -> "Iterator[type[Backbone]]":
    for found in iter_modules(__path__):
        name = f"{__name__}.{found.name}"
        members = vars(import_module(name)).values()
        yield from (item for item in members if getattr(item, "__module__", "") == name and "model_types" in vars(item))
