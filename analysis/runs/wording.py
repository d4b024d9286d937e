"""How numbers, names and lists are written, wherever they are shown."""

from collections.abc import Sequence

import pandas as pd

MISSING = "–"
SCALE = 100  # scores are shown as a hundred times their value, which is what the records' unit is of
_SHOWN = 4  # names in a sentence before "and N more"


def number(value: float, form: str) -> str:
    """The number, or a dash if it is not known."""
    return MISSING if pd.isna(value) else format(value, form)


def counted(runs: int) -> str:
    """Such as "1 run" or "2 runs"."""
    return f"{runs} run" if runs == 1 else f"{runs} runs"


def listed(names: Sequence[str]) -> str:
    """The names, or the first few of them and how many more there are."""
    more = len(names) - _SHOWN
    return "; ".join(names[:_SHOWN]) + (f"; and {more} more" if more > 0 else "")


def with_unit(metric: str, unit: str) -> str:
    """Such as "accuracy (%)"; the name alone if there is no unit."""
    return f"{metric} ({unit})" if unit else metric


def with_delta(delta: float) -> str:
    """Such as ", delta 0.005"; empty for a setting without a limit."""
    return "" if pd.isna(delta) else f", delta {delta:g}"
