"""`zero_shot`: no demonstrations at all (public reference variant 1)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from emloc.methods.base import Method
from emloc.prompt import Demonstration


@dataclass(frozen=True, kw_only=True)
class ZeroShot(Method):
    """What the model knows by itself; the demonstrations it is given are not used."""

    name: ClassVar[str] = "zero_shot"

    def demonstrated(self, demonstrations: Sequence[Demonstration]) -> Sequence[Demonstration]:
        return []
