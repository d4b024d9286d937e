"""What a reader of several runs together must know: each problem is one sentence."""

from collections.abc import Iterator

import pandas as pd

from analysis.runs.load import Loaded, provenance
from analysis.runs.seeds import CELL, SETTING, several

_CONDITIONS = {  # what compared runs should have in common, and what is said where they do not
    "rule": "The demonstrations of {} were not all chosen by one rule",
    "prompt": "The queries of {} were not all asked with the same text",
}
_SHOWN = 4  # names in a sentence before "and N more"


def check(loaded: Loaded) -> list[str]:
    """Problems of all runs together; those of single folders stand in `loaded.problems`."""
    if loaded.runs.empty:
        return []
    checks = (
        _mixed,
        _missing_seeds,
        _repeated_seeds,
        _unequal_demonstrations,
        _unequal_conditions,
        _skipped,
        _no_spread,
        _noted,
    )
    return [problem for one in checks for problem in one(loaded.runs)] + list(_versions(loaded))


def setting_name(row: dict) -> str:
    """A setting in words, such as "emloc (digits, 50 shots, delta 0.005)"."""
    delta = "" if pd.isna(row["delta"]) else f", delta {row['delta']:g}"
    return f"{row['label']} ({row['dataset']}, {row['shots']} shots{delta})"


def counted(runs: int) -> str:
    """Such as "1 run" or "2 runs"."""
    return f"{runs} run" if runs == 1 else f"{runs} runs"


def _mixed(runs: pd.DataFrame) -> Iterator[str]:
    for name in CELL:
        values = sorted(runs[name].unique())
        if len(values) > 1:
            yield (
                f"The runs are of {len(values)} {name}s ({_listed(values)}): every figure shows one, "
                "and is drawn once for each."
            )


def _missing_seeds(runs: pd.DataFrame) -> Iterator[str]:
    """Seeds that other settings of the same dataset and model have."""
    missing: dict[str, list[str]] = {}
    for _, cell in runs.groupby(CELL, sort=True):
        everything = set(cell["seed"])
        for key, group in cell.groupby(SETTING, dropna=False, sort=True):
            lacking = sorted(everything - set(group["seed"]))
            if lacking:
                name = setting_name(dict(zip(SETTING, key, strict=True)))
                missing.setdefault(", ".join(map(str, lacking)), []).append(name)
    for seeds, names in missing.items():
        yield f"Seed {seeds} is missing, though other settings have it: {_listed(names)}."


def _repeated_seeds(runs: pd.DataFrame) -> Iterator[str]:
    for key, group in runs.groupby(SETTING, dropna=False, sort=True):
        if group["seed"].duplicated().any():
            yield (
                f"{setting_name(dict(zip(SETTING, key, strict=True)))} has several different runs of one seed: "
                f"{_listed(sorted(group['path']))}; all of them count."
            )


def _unequal_demonstrations(runs: pd.DataFrame) -> Iterator[str]:
    for (dataset, model, shots, seed), group in runs.groupby(["dataset", "model", "shots", "seed"], sort=True):
        if several(group["demonstrations_id"]):
            yield (
                f"Methods saw different demonstrations of {dataset} ({model}, {shots} shots, seed {seed}): "
                f"{_listed(sorted(group['label'].unique()))} are not comparable."
            )


def _unequal_conditions(runs: pd.DataFrame) -> Iterator[str]:
    for column, sentence in _CONDITIONS.items():
        for (dataset, model), group in runs.groupby(["dataset", "model"], sort=True):
            if several(group[column]):
                what = sentence.format(f"{dataset} ({model})")
                yield f"{what} ({_by(group, column)}): their scores differ for that, too."


def _by(runs: pd.DataFrame, column: str) -> str:
    """Every value of the column, and the settings that have it."""
    groups = runs.groupby(column, sort=True)
    parts = [
        f"{value or 'none'}: {_listed(sorted(set(map(setting_name, rows.to_dict('records')))))}"
        for value, rows in groups
    ]
    return "; ".join(parts)


def _skipped(runs: pd.DataFrame) -> Iterator[str]:
    """Scores of runs that left out queries are means over the others."""
    some = runs[runs["skipped"] > 0]
    if not some.empty:
        counts = [
            f"{setting_name(row)}, seed {row['seed']}: {row['skipped']} of {row['skipped'] + row['n']}"
            for row in some.to_dict("records")
        ]
        yield (
            f"Queries that could not be asked count nowhere in {len(some)} of {counted(len(runs))} "
            f"({_listed(counts)}); the first reason: {some['skip_reason'].iloc[0].removesuffix('.')}."
        )


def _no_spread(runs: pd.DataFrame) -> Iterator[str]:
    flat = runs[(runs["stderr"] == 0) & (runs["n"] > 1)]
    if not flat.empty:
        yield (
            f"All queries scored the same in {len(flat)} of {counted(len(runs))}, so that their standard error is 0; "
            f"that is no certainty: {_listed(sorted({setting_name(row) for row in flat.to_dict('records')}))}."
        )


def _noted(runs: pd.DataFrame) -> Iterator[str]:
    for note, group in runs[runs["notes"] != ""].groupby("notes", sort=True):
        names = sorted({setting_name(row) for row in group.to_dict("records")})
        yield f"Noted by {len(group)} of {counted(len(runs))}: {note}: {_listed(names)}."


def _versions(loaded: Loaded) -> Iterator[str]:
    for name, counts in versions(loaded).items():
        if len(counts) > 1:
            shown = ", ".join(f"{value} ({counted(count)})" for value, count in counts.items())
            yield f"The runs were not all made with the same {name}: {shown}."


def versions(loaded: Loaded) -> dict[str, dict[str, int]]:
    """Package, device, number format or commit -> how many runs had which."""
    found: dict[str, dict[str, int]] = {}
    for record in loaded.records.values():
        for name, value in provenance(record).items():
            counts = found.setdefault(name, {})
            counts[value] = counts.get(value, 0) + 1
    return found


def _listed(names: list[str]) -> str:
    more = len(names) - _SHOWN
    return "; ".join(names[:_SHOWN]) + (f"; and {more} more" if more > 0 else "")
