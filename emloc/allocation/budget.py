"""Budgets of fixed-schedule methods: a ratio, tokens per layer, or the context length of another run."""

import json
from dataclasses import dataclass
from pathlib import Path

from emloc.errors import UserError

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
            raise UserError(f"Expected budget to be {_FORMS}, but got {text!r}.") from None
        if not 0 < number < float("inf"):
            raise UserError(f"Expected budget to be {_FORMS}, but got {text}.")
        return cls(ratio=number) if number <= 1 else cls(tokens=number)

    def resolve(self, context_tokens: int) -> float:
        """Mean tokens per layer for a context of `context_tokens`; never more than there are."""
        wanted = self.tokens if self.tokens is not None else (self.ratio or 0.0) * context_tokens
        return min(wanted, float(context_tokens))


def _recorded_tokens(path: Path) -> float:
    path = path / "record.json" if path.is_dir() else path
    try:
        return float(json.loads(path.read_text())["context"]["tokens_kept_mean"])
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"Expected budget=match: to name a finished run's record.json, but {path} is not one "
            f"({type(error).__name__}: {error}); run the method to be matched first."
        ) from error


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
