"""The two sets of rules that a benchmark can be scored by."""

from typing import Literal, get_args

from emloc.errors import UserError, nearest

Scoring = Literal["reference", "strict"]  # what the paper's public implementation does; what the answer says


def is_strict(scoring: Scoring) -> bool:
    """Whether the strict rules are asked for; UserError if it is neither of the two."""
    if scoring not in get_args(Scoring):
        known = " or ".join(f"'{name}'" for name in get_args(Scoring))
        raise UserError(f"scoring must be {known}, but got {scoring!r}.{nearest(str(scoring), get_args(Scoring))}")
    return scoring == "strict"
