"""The one exception for bad input, and the help that its messages give."""

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(ValueError):
    """Input that cannot be used; its message is one sentence: what was expected, what came, what to do instead."""


def nearest(name: str, known: Iterable[str]) -> str:
    """The sentence `Did you mean 'x'?`, after a space, for the known name most like `name`; empty if none is alike.

    Upper and lower case are the same here.
    """
    by_lower = {candidate.lower(): candidate for candidate in known}
    matches = get_close_matches(name.lower(), by_lower, n=1, cutoff=0.5)
    return f" Did you mean '{by_lower[matches[0]]}'?" if matches else ""
