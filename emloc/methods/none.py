"""`none`: every demonstration, nothing pruned (the paper's MLoC; public reference variant 2)."""

from dataclasses import dataclass
from typing import ClassVar

from emloc.methods.base import Method


@dataclass(frozen=True, kw_only=True)
class NoPruning(Method):
    """The full many-shot context: the accuracy to hold and the context length to beat."""

    name: ClassVar[str] = "none"
