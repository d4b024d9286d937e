"""How numbers, names and lists are written, wherever they are shown."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

MISSING = "–"
SCALE = 100  # scores are shown as a hundred times their value, which is what the records' unit is of
_SHOWN = 4  # names in a sentence before "and N more"


def number(value: float, form: str) -> str:
    """The number, or a dash if it is not known."""
    return MISSING if pd.isna(value) else format(value, form)


def interval_text(row: Mapping[str, Any]) -> str:
    """A setting's score and the ends of its interval, such as "93.9 [92.6, 95.0] %"; without them if unknown."""
    ends = "" if pd.isna(row["low"]) else f" [{SCALE * row['low']:.1f}, {SCALE * row['high']:.1f}]"
    unit = f" {row['unit']}" if row["unit"] else ""
    return f"{SCALE * row['value']:.1f}{ends}{unit}"


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


def left_out(settings: int) -> str:
    """Such as "2 other settings are left out"; empty for none."""
    return f"{settings} other setting{' is' if settings == 1 else 's are'} left out" if settings else ""
