"""Folders of runs, and bundles -> tidy tables: one row per finished run, one row per chunk and layer of it.

Whatever cannot be used is named in `Loaded.problems`, one sentence each; nothing is left out without a word.
"""

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.runs.found import FoundRun, UnusableError, find
from analysis.runs.naming import options_of, stage, with_labels
from analysis.runs.scores import ScoresOf, no_scores
from experiments.records.layers import COLUMNS
from experiments.records.names import component
from experiments.records.schema import COMPLETE
from experiments.records.upgrade import SCHEMA, upgraded

_SKIPPED = "(see skipped)"  # ends the note of a run that skipped queries; `checks` says more about those
_OF_THE_RUN = ("run_id", "dataset", "model", "metric", "queries", "method", "importance", "label", "shots", "delta",
               "seed", "demonstrations_id")  # fmt: skip
_DAMAGED = (KeyError, TypeError, ValueError, AttributeError, IndexError, ArithmeticError)
BASELINES = ("chance", "majority")
Records = Mapping[str, dict[str, Any]]


@dataclass(frozen=True)
class Loaded:
    """All finished runs below some folders.

    runs: one row per run. dataset, model, metric, method; importance (its name, empty without one); label (the method
        and those of its options in which runs differ); shots, delta, seed; value, stderr (standard error over the run's
        queries), n (queries), queries (how many were asked: the choice of so many depends on no seed and no method),
        unit (of a hundred times the value: "%" or none), higher_is_better; skipped (queries that could not be asked),
        skip_reason (of the first); rule (that chose the demonstrations), prompt (fingerprints of the texts that
        questions are made with); tokens_full, tokens_kept (cache entries per KV head, mean over layers), compression,
        bytes_full, bytes_kept; js_max (worst chunk), js_sum (of all chunks, each against its own teacher), js_total
        (demonstrations, at the end of the context, against the whole context), js_heldout, all in nats; agreement
        (share of held-out queries answered as with the whole context); baseline_chance, baseline_majority (scores that
        need no model); seconds_load, seconds_compress, seconds_measure, seconds_query, queries_per_second,
        peak_memory_bytes, layer_forwards (of the compression) and measuring_forwards (that only measured its
        divergence); device, dtype; demonstrations_id, notes, run_id; path (of record.json, or FILE:LINE in a bundle),
        file (the record.json or the bundle), folder (the name of the run's folder). Unknown numbers are NaN.
    others: as `runs`, one row per run and metric of its dataset besides the one that runs are compared by.
    layers: one row per chunk and layer, the columns of layers.csv after those of the run, and js_heldout (nats): on
        held-out queries, with only the layers from that one up pruned, the same for all chunks.
    records: a run's path -> its record in the present schema.
    scores: a run's path -> the scores of its single queries, read when they are asked for.
    """

    runs: pd.DataFrame
    others: pd.DataFrame
    layers: pd.DataFrame
    records: Records
    problems: list[str]
    scores: ScoresOf = no_scores


def load(folders: Sequence[str | Path]) -> Loaded:
    """All finished runs in and below `folders`; a record.json or a bundle (.jsonl) itself may be given, too."""
    found, problems = find([Path(folder) for folder in folders])
    records: dict[str, dict[str, Any]] = {}
    rows = []
    for run in found:
        try:
            record = _checked(run.record())
            rows.append({**_row(record), "path": run.path, "file": str(run.file), "folder": run.folder})
            records[run.path] = record
        except UnusableError as reason:
            problems.append(f"{run.path} {reason}; left out.")
    runs, repeated = _without_duplicates(pd.DataFrame(rows))
    runs = with_labels(runs, records)
    used = {path: records[path] for path in runs.get("path", ())}
    by_path = {run.path: run for run in found}
    layers, damaged = _layers(runs, used, by_path)
    scores = cache(lambda path: by_path[path].scores())
    return Loaded(runs, _others(runs, used), layers, used, problems + repeated + damaged, scores)


def load_finished(folders: Sequence[str]) -> Loaded | None:
    """As `load`; None, and one sentence on stderr, if there is no finished run."""
    loaded = load(folders)
    if not loaded.runs.empty:
        return loaded
    problems = loaded.problems
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    reason = f": {problems[0].removesuffix('.')}{more}" if problems else ""
    print(f"Expected finished runs in {', '.join(folders)}, but found none{reason}.", file=sys.stderr)
    return None


def _checked(record: Any) -> dict[str, Any]:
    """The record in the present schema."""
    if not isinstance(record, dict) or "schema" not in record:
        raise UnusableError("is not a record of a run")
    if record.get("status") != COMPLETE:
        raise UnusableError(f"has the status {record.get('status')!r}, not {COMPLETE!r}")
    try:
        record = upgraded(record)
    except _DAMAGED as error:
        raise _damaged(error) from None
    if record["schema"] != SCHEMA:
        raise UnusableError(f"is of schema {record['schema']}, which this version cannot read; its own is {SCHEMA}")
    return record


def _damaged(error: Exception) -> UnusableError:
    return UnusableError(f"is damaged ({type(error).__name__}: {error})")


def _row(record: dict[str, Any]) -> dict[str, Any]:
    try:
        row = {**_identity(record), **_chosen(record), **_score(record["metric"]), **_cost(record)}
        for metric in record["other_metrics"]:
            _score(metric)  # it is read later, when it is too late to leave the run out
        provenance(record)
        options_of(record)
        return row
    except _DAMAGED as error:
        raise _damaged(error) from None


def provenance(record: dict[str, Any]) -> dict[str, str]:
    """What a run was made with: versions of packages, device, number format and commit."""
    git = record["git"]
    changed = " with uncommitted changes" if git and git["dirty"] else ""
    return {
        **{str(name): str(version) for name, version in record["versions"].items()},
        "device": str(record["device"]),
        "dtype": str(record["dtype"]),
        "commit": f"{git['commit'][:10]}{changed}" if git else "not a git checkout",
    }


def _identity(record: dict[str, Any]) -> dict[str, Any]:
    config = record["config"]
    return {
        "run_id": str(record["run_id"]),
        "dataset": component(config["dataset"]),
        "model": str(config["model"]["name"]),
        "method": component(config["method"]),
        "importance": stage(config["method"], "importance"),
        "shots": int(config["shots"]),
        "delta": _number(record["js"]["delta"]),
        "seed": int(config["seed"]),
        "device": str(record["device"]),
        "dtype": str(record["dtype"]),
        "demonstrations_id": str(record["demonstrations_id"]),
        "notes": "; ".join(note for note in record["notes"] if not note.endswith(_SKIPPED)),
    }


def _chosen(record: dict[str, Any]) -> dict[str, Any]:
    """What the model was given: how the demonstrations were chosen, the prompt's texts, and what was left out."""
    texts = sorted(record["prompt_fingerprint"].items())
    return {
        "rule": str(record["demonstrations"]["rule"]),
        "prompt": ", ".join(f"{name} {text['sha256'][:8]}" for name, text in texts),
        "queries": int(record["metric"]["n"]) + len(record["skipped"]),
        "skipped": len(record["skipped"]),
        "skip_reason": next(iter(record["skipped"].values()), ""),
    }


def _score(metric: dict[str, Any]) -> dict[str, Any]:
    if not math.isfinite(metric["value"]):
        raise ValueError(f"the {metric['name']} is {metric['value']}")
    return {
        "metric": str(metric["name"]),
        "value": float(metric["value"]),
        "stderr": _number(metric["stderr"]),
        "n": int(metric["n"]),
        "unit": str(metric["unit"]),
        "higher_is_better": bool(metric["higher_is_better"]),
    }


def _cost(record: dict[str, Any]) -> dict[str, Any]:
    context, js, seconds = record["context"], record["js"], record["seconds"]
    return {
        "tokens_full": int(context["tokens_full"]),
        "tokens_kept": float(context["tokens_kept_mean"]),
        "compression": _number(context["compression"]),
        "bytes_full": int(context["bytes_full"]),
        "bytes_kept": int(context["bytes_kept"]),
        "js_max": float(max(js["final_per_chunk"], default=math.nan)),
        "js_sum": float(sum(js["final_per_chunk"])) if js["final_per_chunk"] else math.nan,
        "js_heldout": _number(js["heldout_mean"]),
        "js_total": _number(js.get("total")),
        "agreement": _number(js.get("agreement")),
        **{f"baseline_{name}": _number(record.get("baselines", {}).get(name)) for name in BASELINES},
        **{f"seconds_{part}": float(seconds[part]) for part in ("load", "compress", "query")},
        "seconds_measure": _number(seconds.get("measure")),  # counted as compression until schema 3
        "queries_per_second": float(record["queries_per_second"]),
        "peak_memory_bytes": int(record["peak_memory_bytes"]),
        "layer_forwards": int(record["layer_forwards"]),
        "measuring_forwards": int(record["measuring_forwards"]),
    }


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _without_duplicates(runs: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Every run once: the first one found counts, and sentences name the others."""
    if runs.empty:
        return runs, []
    first = runs.groupby("run_id", sort=False)[["path", "value"]].transform("first")
    again = runs["path"] != first["path"]
    same = again & (runs["value"] == first["value"])
    other = again & ~same
    problems = [
        f"{path} holds the same run as {kept} WITH ANOTHER SCORE; left out."
        for path, kept in zip(runs[other]["path"], first[other]["path"], strict=True)
    ]
    if same.any():
        more = f", and so on for {same.sum() - 1} more" if same.sum() > 1 else ""
        pair = f"{runs[same]['path'].iloc[0]} holds the same run as {first[same]['path'].iloc[0]}"
        problems.append(f"{pair} with the same score{more}; left out.")
    return runs[~again].reset_index(drop=True), problems


def _others(runs: pd.DataFrame, records: Records) -> pd.DataFrame:
    rows = [
        {**run, **_score(metric)} for run in runs.to_dict("records") for metric in records[run["path"]]["other_metrics"]
    ]
    return pd.DataFrame(rows, columns=runs.columns)


def _layers(runs: pd.DataFrame, records: Records, found: Mapping[str, FoundRun]) -> tuple[pd.DataFrame, list[str]]:
    tables, problems = [], []
    for run in runs.to_dict("records"):
        heldout = dict(enumerate(records[run["path"]]["js"].get("heldout_per_layer") or []))
        try:
            table = found[run["path"]].layers().assign(**{name: run[name] for name in _OF_THE_RUN})
            tables.append(table.assign(js_heldout=table["layer"].map(heldout).astype(float)))
        except (OSError, ValueError, KeyError) as error:
            problems.append(
                f"The layers of {run['path']} cannot be read ({error}); the run is missing from the figures of layers."
            )
    columns = [*_OF_THE_RUN, *COLUMNS, "js_heldout"]
    filled = [table for table in tables if not table.empty]
    return pd.concat(filled)[columns].reset_index(drop=True) if filled else pd.DataFrame(columns=columns), problems
