"""Keys and values at a few bits a number, as KIVI has them (arXiv 2402.02750): simulated, bytes counted as stored."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from emloc.options import Count, check_options

Bits = Literal[2, 4, 8]


@dataclass(frozen=True)
class Quantisation:
    """Uniform steps between the least and the greatest of `group` numbers, asymmetric.

    A group of keys is a channel's at consecutive tokens, of values a token's in consecutive channels; the last one may
    be shorter. For each group its codes are stored, and its least number and its step in the type of the entries.

    Unlike KIVI's, the last tokens are quantised too, where it leaves a window of them as they are.
    """

    bits: Bits
    group: Count

    def __post_init__(self) -> None:
        check_options(self)

    def keys(self, keys: Tensor) -> Tensor:
        """Keys (T, D) of a KV head as they come out of storage."""
        return self._stepped(keys.T).T.contiguous()

    def values(self, values: Tensor) -> Tensor:
        """Values (T, D) of a KV head as they come out of storage."""
        return self._stepped(values)

    def nbytes(self, lengths: Sequence[int], *, channels: int, element: int) -> int:
        """Bytes of keys and values of KV heads with these numbers of tokens, `element` bytes a number as they are."""
        of_keys = sum(channels * self._line_bytes(tokens, element) for tokens in lengths)
        return of_keys + sum(lengths) * self._line_bytes(channels, element)

    def _line_bytes(self, length: int, element: int) -> int:
        """Bytes of a line of numbers that is cut into groups; codes of a group begin at a byte of their own."""
        whole, rest = divmod(length, self.group)
        codes = whole * math.ceil(self.group * self.bits / 8) + math.ceil(rest * self.bits / 8)
        return codes + 2 * element * (whole + (rest > 0))

    def _stepped(self, lines: Tensor) -> Tensor:
        """Every number (N, M) of the lines at the nearest step of its group."""
        return torch.cat([self._round_trip(group) for group in lines.split(self.group, dim=-1)], dim=-1)

    def _round_trip(self, groups: Tensor) -> Tensor:
        """Groups (N, G), one a line, quantised and back."""
        if not groups.numel():
            return groups
        levels = 2**self.bits - 1
        exact = groups.float()
        least, greatest = exact.aminmax(dim=-1, keepdim=True)
        # What is stored decides what a code means, so the codes are found with the step as it is stored.
        least, step = (each.to(groups.dtype).float() for each in (least, (greatest - least) / levels))
        codes = ((exact - least) / torch.where(step > 0, step, 1.0)).round().clamp(0, levels)
        return (least + codes * step).to(groups.dtype)
