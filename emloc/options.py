"""The one check of options: what a dataclass declares as types and ranges is what its values have to be.

Every component (method, importance, allocation, dataset, logger, ...) is a frozen dataclass that calls `check_options`
on construction. So a library call and a command line are refused by the same rule, before anything is loaded.
"""

import math
import types
import typing
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from emloc.errors import UserError, nearest


class OptionError(UserError):
    """An option of the wrong type or out of range. `option` is its name and `reason` the rest of the sentence."""

    def __init__(self, option: str, reason: str) -> None:
        super().__init__(f"Expected {option} to be {reason}")
        self.option, self.reason = option, reason


@dataclass(frozen=True)
class Range:
    """The numbers from `least` to `most`, `least` itself left out if `above`; `note` says what they mean."""

    least: float
    most: float = math.inf
    above: bool = False
    note: str = ""

    def __contains__(self, number: float) -> bool:
        low = number > self.least if self.above else number >= self.least
        return low and number <= self.most and math.isfinite(number)

    def __str__(self) -> str:
        words = f"above {self.least:g}" if self.above else f"from {self.least:g}"
        if self.most < math.inf:
            words += f" and at most {self.most:.4g}" if self.above else f" to {self.most:.4g}"
        elif not self.above:
            words += " up"
        return f"{words} ({self.note})" if self.note else words


Count = Annotated[int, Range(1)]
CountOrZero = Annotated[int, Range(0)]
Text = Annotated[str, "a text that is not empty"]


def check_options(component: Any) -> None:
    """Check every field of a frozen dataclass against its annotation; lists become tuples where tuples are declared.

    Raises
    ------
    OptionError
        For the first value that does not fit: what was expected, what came, and the nearest name of a choice.
    """
    hints = _hints(component.__class__)
    for field in fields(component):
        value = getattr(component, field.name)
        if isinstance(value, list) and _wants_tuple(hints[field.name]):
            value = tuple(value)
            object.__setattr__(component, field.name, value)
        check_option(field.name, value, hints[field.name])


def check_option(option: str, value: object, hint: Any) -> None:
    """OptionError unless the value is of the annotated type and in its range."""
    if not _fits(value, hint):
        raise OptionError(option, f"{_words(hint)}, but got {_shown(value)}.{_nearest(value, hint)}")


@cache
def _hints(cls: Any) -> Mapping[str, Any]:
    return typing.get_type_hints(cls, include_extras=True)


def _fits(value: object, hint: Any) -> bool:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _fits(value, arguments[0]) and all(_in_range(value, limit) for limit in arguments[1:])
    if origin in (types.UnionType, typing.Union):
        return any(_fits(value, choice) for choice in arguments)
    if origin is Literal:
        return any(value == choice and type(value) is type(choice) for choice in arguments)
    if origin in (tuple, list, Sequence, Collection):
        return isinstance(value, list | tuple) and all(_fits(item, arguments[0]) for item in value)
    if origin in (dict, Mapping):
        pairs = value.items() if isinstance(value, Mapping) else [(None, None)]
        return all(_fits(key, arguments[0]) and _fits(item, arguments[1]) for key, item in pairs)
    return _is_plain(value, hint)


def _is_plain(value: object, hint: Any) -> bool:
    if hint is Any:
        return True
    if hint is None or hint is type(None):
        return value is None
    if hint is float:  # a whole number is a number, and true is none
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint)


def _in_range(value: object, limit: object) -> bool:
    if isinstance(limit, Range):
        return isinstance(value, int | float) and value in limit
    return not isinstance(value, str) or bool(value.strip())  # the annotation of `Text`


def _words(hint: Any) -> str:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        limit = arguments[1]
        return f"{_words(arguments[0])} {limit}" if isinstance(limit, Range) else str(limit)
    if origin in (types.UnionType, typing.Union):
        return " or ".join(dict.fromkeys(_words(choice) for choice in arguments))
    if origin is Literal:
        return f"one of {', '.join(map(str, arguments))}"
    if origin in (tuple, list, Sequence, Collection):
        return f"a list, each item {_words(arguments[0])}"
    if origin in (dict, Mapping):
        return "names with a value each"
    return _PLAIN.get(hint) or f"one of the classes of {hint.__module__.rpartition('.')[0] or hint.__name__}"


_PLAIN: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "a text",
    Path: "a path",
    type(None): "null",
    None: "null",
}


def _shown(value: object) -> str:
    # As the user wrote it: null for None, and a list that became a tuple above as a list again.
    return "null" if value is None else repr([*value] if isinstance(value, tuple) else value)


def _nearest(value: object, hint: Any) -> str:
    choices = [*_choices(hint)]
    return nearest(str(value), choices) if choices else ""


def _choices(hint: Any) -> Iterator[str]:
    """The texts that an annotation names, those of a choice within a union too."""
    if get_origin(hint) is Literal:
        yield from map(str, get_args(hint))
    elif get_origin(hint) in (types.UnionType, typing.Union):
        for part in get_args(hint):
            yield from _choices(part)


def _wants_tuple(hint: Any) -> bool:
    inner = get_args(hint)[0] if get_origin(hint) is Annotated else hint
    return get_origin(inner) is tuple
