"""Allocations that spend a budget: a ratio, tokens per layer, or the context length of another run."""

import json
import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated

from torch import Tensor

from emloc.allocation.base import Allocation, Decision, Share
from emloc.errors import UserError
from emloc.options import OptionError, Range, check_option
from emloc.region import Measure
from emloc.scores import top_indices

_FORMS = "a ratio in (0, 1] such as 0.2, tokens per layer such as 512, or match:PATH/record.json"


@dataclass(frozen=True)
class Budget:
    """Mean tokens per layer and KV head that a method may keep."""

    ratio: float | None = None
    tokens: float | None = None

    @classmethod
    def parse(cls, text: str | float) -> "Budget":
        """Read what a user wrote; numbers up to 1 are ratios, larger ones are tokens.

        `match:PATH` takes the mean kept tokens of the run recorded there, so that two methods are compared at equal
        context length by construction.
        """
        if isinstance(text, str) and text.startswith("match:"):
            return cls(tokens=_recorded_tokens(Path(text.removeprefix("match:"))))
        try:
            number = float(text)
        except ValueError:
            raise OptionError("budget", f"{_FORMS}, but got {text!r}.") from None
        if isinstance(text, bool) or not 0 < number < math.inf:
            raise OptionError("budget", f"{_FORMS}, but got {text}.")
        return cls(ratio=number) if number <= 1 else cls(tokens=number)

    def resolve(self, context_tokens: int) -> float:
        """Mean tokens per layer for a context of `context_tokens`; never more than there are."""
        wanted = self.tokens if self.tokens is not None else (self.ratio or 0.0) * context_tokens
        return min(wanted, float(context_tokens))


def _recorded_tokens(path: Path) -> float:
    path = path / "record.json" if path.is_dir() else path
    try:
        tokens = json.loads(path.read_text())["context"]["tokens_kept_mean"]
        check_option("tokens_kept_mean", tokens, Annotated[float, Range(0, above=True)])
        return float(tokens)
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"Expected budget=match: to name a finished run's record.json, but {path} is not one "
            f"({type(error).__name__}: {error}); run the method to be matched first."
        ) from error


@dataclass(frozen=True, kw_only=True)
class Budgeted(Allocation):
    """Keeps as many tokens as a budget says.

    Parameters
    ----------
    budget
        Mean tokens per layer: a ratio of the context, a number of tokens, or `match:PATH/record.json`. Where the
        context is decided chunk by chunk, chunks share it by their length.
    """

    budget: str | float = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        _ = self._budget  # a budget that cannot be read is refused now

    def target(self, total: int) -> float:
        """The mean tokens per layer aimed at for a context of `total` tokens."""
        return self._budget.resolve(total)

    def check(self, total: int, reserved: int) -> None:
        tokens = self.target(total)
        if total and tokens < max(1, reserved):
            raise UserError(
                f"Expected a budget of at least {max(1, reserved)} tokens, which always stay (the observation window, "
                f"or sinks), but budget={self.budget} is {tokens:.0f} of {total} context tokens; raise budget or lower "
                "window or sinks."
            )

    @cached_property
    def _budget(self) -> Budget:
        """`budget` as it was on construction: a record that it names is read once, even if the file changes later."""
        return Budget.parse(self.budget)


@dataclass(frozen=True, kw_only=True)
class Scheduled(Budgeted):
    """Spreads the budget over the layers by fixed weights; all KV heads of a layer keep as many."""

    @abstractmethod
    def weights(self, layers: int) -> list[float]:
        """Relative budgets of the layers, bottom to top."""

    def decide(self, scores: Sequence[Tensor], share: Share, measure: Measure) -> Decision:
        counts = self.counts(len(scores), share)
        pairs = zip(scores, counts, strict=True)
        return Decision([top_indices(score, count, reserved=share.reserved) for score, count in pairs])

    def kept(self, layers: int, share: Share) -> tuple[int, int]:
        total = sum(self.counts(layers, share))
        return total, total

    def counts(self, layers: int, share: Share) -> list[int]:
        """Tokens of this part that each layer keeps; those of all parts add up to the layer's budget exactly."""
        return [share.portion(budget) for budget in self.layer_budgets(layers, share)]

    def layer_budgets(self, layers: int, share: Share) -> list[int]:
        """Tokens per layer of the whole context, the reserved ones included; their mean is the budget."""
        reserved, most = share.reserved, share.total - share.reserved
        spreadable = (self.target(share.total) - reserved) * layers
        return [count + reserved for count in spread(self.weights(layers), spreadable, most=most)]


def spread(weights: list[float], total: float, *, most: int) -> list[int]:
    """Whole numbers near `weights`, none above `most`, that add up to `total` rounded (largest remainders first).

    What a capped layer cannot take goes to the others in proportion to their weights.
    """
    total = min(round(total), most * len(weights))
    shares = _capped(weights, total, most)
    counts = [int(share) for share in shares]
    order = sorted(range(len(shares)), key=lambda at: shares[at] - counts[at], reverse=True)
    for at in order[: total - sum(counts)]:
        counts[at] += 1
    return counts


def _capped(weights: list[float], total: int, most: int) -> list[float]:
    shares = [total * weight / sum(weights) for weight in weights]
    while max(shares) > most + 1e-9:
        fixed = [share >= most for share in shares]
        left = total - most * sum(fixed)
        free = sum(weight for weight, is_fixed in zip(weights, fixed, strict=True) if not is_fixed)
        shares = [most if f else left * w / free for w, f in zip(weights, fixed, strict=True)]
    return shares
