"""Seed by seed: how runs on the same demonstrations differ, how certain that is, and what follows from it."""

from dataclasses import dataclass

import pandas as pd

from analysis.runs.intervals import t_interval
from analysis.runs.wording import SCALE, number

UNCERTAIN = "cannot be told"


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds and half its 95 % t-interval (NaN for one seed)."""

    mean: float
    half: float
    seeds: int

    @classmethod
    def of(cls, values: pd.Series) -> "Estimate":
        """The estimate from one value per seed."""
        return cls(float(values.mean()), t_interval(values), len(values))

    def text(self, form: str) -> str:
        """Such as "-0.1 ± 0.4", both in the form, the first with its sign."""
        return f"{self.mean:+{form}} ± {number(self.half, form)}"


def verdict(estimate: Estimate, threshold: float, *, upwards: bool) -> str:
    """Whether the mean is above the threshold (below it unless `upwards`), in words: the interval decides."""
    if pd.isna(estimate.half):
        return f"{UNCERTAIN} (one seed)"
    low, high = estimate.mean - estimate.half, estimate.mean + estimate.half
    if low == high == threshold:
        return f"{UNCERTAIN} (no difference in any seed)"
    if low <= threshold <= high:
        return f"{UNCERTAIN} (the interval contains {threshold:g})"
    return "holds" if (low > threshold) == upwards else "does not hold"


def paired(runs: pd.DataFrame, others: pd.DataFrame) -> pd.DataFrame:
    """Runs of one setting beside those of another with the same shots, seed and demonstrations, suffixed _1 and _2.

    `gain` is the first score minus the second in hundredths, positive if the first is better.
    """
    # The demonstrations, too: another version of a dataset may draw others with the same seed.
    found = runs.merge(others, on=["shots", "seed", "demonstrations_id"], suffixes=("_1", "_2"))
    sign = found["higher_is_better_1"].map({True: SCALE, False: -SCALE}).astype(float)
    return found.assign(gain=sign * (found["value_1"] - found["value_2"]))


def apart(pairs: pd.DataFrame) -> float:
    """The largest relative difference of two paired contexts' lengths."""
    return float((pairs["tokens_kept_1"] / pairs["tokens_kept_2"] - 1).abs().max())


def rank_correlation(layers: pd.DataFrame) -> float:
    """Spearman's, of layer number and kept ratio; 0 where every layer keeps the same, which has no rank."""
    ratio = layers["tokens_kept"] / layers["tokens_before"]
    return float(ratio.rank().corr(layers["layer"].rank())) if ratio.max() > ratio.min() else 0.0


def halves(layers: pd.DataFrame) -> dict[str, float]:
    """Mean kept tokens of the lower and the upper half of the layers (in order); a middle one is in neither."""
    kept, half = layers["tokens_kept"], len(layers) // 2
    return {"lower": kept.iloc[:half].mean(), "upper": kept.iloc[len(kept) - half :].mean()}
