"""What a reader must know before comparing runs: each problem is one sentence."""

from collections.abc import Iterator

import pandas as pd

from analysis.runs.intervals import SHARE
from analysis.runs.load import Loaded, provenance
from analysis.runs.seeds import CELL, SETTING, several
from analysis.runs.wording import counted, listed, with_delta

_CONDITIONS = {  # what compared runs should have in common, and the sentence if they do not
    "rule": "The demonstrations of {} were not all chosen by one rule",
    "prompt": "The queries of {} were not all asked with the same text",
}


def check(loaded: Loaded) -> list[str]:
    """Problems of the runs as a whole; those of single runs are in `loaded.problems`."""
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
    return f"{row['label']} ({row['dataset']}, {row['shots']} shots{with_delta(row['delta'])})"


def _mixed(runs: pd.DataFrame) -> Iterator[str]:
    for name in CELL[:3]:
        values = sorted(runs[name].unique())
        if len(values) > 1:
            yield (
                f"There are runs of {len(values)} {name}s ({listed(values)}): "
                "every figure is drawn once for each of them."
            )
    for (dataset, model, metric), group in runs.groupby(CELL[:3], sort=True):
        if several(group["queries"]):
            counts = listed([f"{count:,}" for count in sorted(group["queries"].unique())])
            yield (
                f"The {metric} of {dataset} ({model}) is of different queries ({counts} of them): "
                "only runs on the same ones are compared."
            )


def _missing_seeds(runs: pd.DataFrame) -> Iterator[str]:
    """Seeds that other settings of the same dataset and model have."""
    missing: dict[str, list[str]] = {}
    for _, cell in runs.groupby(CELL, sort=True):
        everything = set(cell["seed"])
        for key, group in cell.groupby(SETTING, dropna=False, sort=True):
            absent = sorted(everything - set(group["seed"]))
            if absent:
                name = setting_name(dict(zip(SETTING, key, strict=True)))
                missing.setdefault(", ".join(map(str, absent)), []).append(name)
    for seeds, names in missing.items():
        yield f"Seed {seeds} is missing, although other settings have it: {listed(names)}."


def _repeated_seeds(runs: pd.DataFrame) -> Iterator[str]:
    for key, group in runs.groupby(SETTING, dropna=False, sort=True):
        if group["seed"].duplicated().any():
            yield (
                f"{setting_name(dict(zip(SETTING, key, strict=True)))} has several different runs of one seed: "
                f"{listed(sorted(group['path']))}; all of them are counted."
            )


def _unequal_demonstrations(runs: pd.DataFrame) -> Iterator[str]:
    for (dataset, model, shots, seed), group in runs.groupby(["dataset", "model", "shots", "seed"], sort=True):
        if several(group["demonstrations_id"]):
            yield (
                f"Methods saw different demonstrations of {dataset} ({model}, {shots} shots, seed {seed}): "
                f"{listed(sorted(group['label'].unique()))} are not comparable."
            )


def _unequal_conditions(runs: pd.DataFrame) -> Iterator[str]:
    for column, sentence in _CONDITIONS.items():
        for (dataset, model), group in runs.groupby(["dataset", "model"], sort=True):
            if several(group[column]):
                what = sentence.format(f"{dataset} ({model})")
                yield f"{what} ({_by(group, column)}): this alone can change their scores."


def _by(runs: pd.DataFrame, column: str) -> str:
    """Every value of the column, and the settings that have it."""
    groups = runs.groupby(column, sort=True)
    parts = [
        f"{value or 'none'}: {listed(sorted(set(map(setting_name, rows.to_dict('records')))))}"
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
            f"Queries were skipped, and do not count, in {len(some)} of {counted(len(runs))} "
            f"({listed(counts)}); the first reason: {some['skip_reason'].iloc[0].removesuffix('.')}."
        )


def _no_spread(runs: pd.DataFrame) -> Iterator[str]:
    # A share's interval is Wilson's then, which does not end at the score.
    flat = runs[(runs["stderr"] == 0) & (runs["n"] > 1) & (runs["unit"] != SHARE)]
    if not flat.empty:
        names = sorted({setting_name(row) for row in flat.to_dict("records")})
        yield (
            f"All queries scored the same in {len(flat)} of {counted(len(runs))}, so their standard error is 0, "
            f"which does not mean that the score is certain: {listed(names)}."
        )


def _noted(runs: pd.DataFrame) -> Iterator[str]:
    for note, group in runs[runs["notes"] != ""].groupby("notes", sort=True):
        names = sorted({setting_name(row) for row in group.to_dict("records")})
        yield f"Noted by {len(group)} of {counted(len(runs))}: {note}: {listed(names)}."


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
