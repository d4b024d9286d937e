"""Names of options: what earlier ones are called now, and the sentence for a name that does not exist."""

import re
import sys
from collections.abc import Iterable, Sequence

from emloc.errors import nearest

# Until methods were chains, a method had all its options itself, and `observe` chose the importance.
_OBSERVE = "method.observe"
_IMPORTANCE = "method/importance"
_VALUES = {"probes": "answers"}  # `window` has kept its name
_MOVED = {
    f"method.{option}": f"method.{part}.{option}"
    for part, options in (
        ("allocation", ("delta", "ratios", "order", "group", "budget", "beta")),
        ("importance", ("window", "kernel")),
    )
    for option in options
}
_OPTION = re.compile(r"(?P<prefix>\+{0,2})(?P<name>method\.\w+)=(?P<value>.*)", re.DOTALL)
_VIDEO = re.compile(r"method=.*\bemloc_video\b.*")


def brought_up_to_date(arguments: Sequence[str]) -> list[str]:
    """A command line with today's names for options under earlier ones; tells on stderr what to write now."""
    # The window of emloc_video is in frames, always was an option of the method itself, and is one still.
    kept = {"method.window"} if any(map(_VIDEO.fullmatch, arguments)) else set()
    return [_today(argument, kept) for argument in arguments]


def _today(argument: str, kept: set[str]) -> str:
    found = _OPTION.fullmatch(argument)
    if found is None or found["name"] in kept:
        return argument
    if found["name"] == _OBSERVE:
        # A choice has no prefix: all methods list it already, and Hydra refuses to add a group a second time.
        value = re.sub(r"\w+", lambda word: _VALUES.get(word[0], word[0]), found["value"])
        return _told(argument, f"{_IMPORTANCE}={value}")
    if found["name"] in _MOVED:
        return _told(argument, f"{found['prefix']}{_MOVED[found['name']]}={found['value']}")
    return argument


def _told(argument: str, now: str) -> str:
    print(f"{argument} is an earlier spelling; write {now}.", file=sys.stderr)
    return now


def unknown(what: str, name: str, known: Iterable[str], *, owner: str = "") -> str:
    """The sentence for a name that is not among the known ones; `owner` is the node that it was an option of."""
    options = sorted(known)
    among = f"Expected {what} to be one of {', '.join(options)}" if options else f"Expected no {what.partition(' ')[2]}"
    return f"{among}; got '{name}'.{_instead(f'{owner}.{name}') or nearest(name, options)}"


def unknown_option(owner: str, name: str, known: Iterable[str]) -> str:
    """As `unknown`, for an option of a node; the owner of the options of conf/config.yaml itself is empty."""
    return unknown(f"an option of {owner}" if owner else "an option", name, known, owner=owner)


def _instead(option: str) -> str:
    now = f"{_IMPORTANCE}=answers or window" if option == _OBSERVE else _MOVED.get(option)
    return f" It has moved; write {now}." if now else ""
