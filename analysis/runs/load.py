"""Folders of runs -> tidy tables: one row per finished run, one row per chunk and layer of it.

What cannot be used is named in `Loaded.problems`, one sentence each; nothing is dropped silently.
"""

import json
import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.runs.naming import component, with_labels

SCHEMA = 2
RECORD = "record.json"
LAYERS = "layers.csv"
# Any of these without a record: a run that was begun here and has not ended.
_TRACES = ("predictions.jsonl", LAYERS, ".hydra/run.json")
_LAYER_COLUMNS = (
    "chunk", "layer", "tokens_before", "tokens_kept", "ratio", "js", "image_kept", "question_kept", "answer_kept",
    "candidates",
)  # fmt: skip
_SKIPPED = "(see skipped)"  # ends the note that a run with skipped queries carries; `checks` says more
_OF_THE_RUN = ("run_id", "dataset", "model", "metric", "method", "label", "shots", "delta", "seed", "demonstrations_id")


@dataclass(frozen=True)
class Loaded:
    """All finished runs below some folders.

    runs: one row per run. dataset, model, metric, method; label (the method and those of its options in which runs
        differ); shots, delta, seed; value, stderr (standard error over the run's queries), n (queries), unit (of a
        hundred times the value: "%" or none), higher_is_better; skipped (queries that could not be asked) and
        skip_reason (of the first); rule (that chose the demonstrations), prompt (fingerprints of the texts that
        questions are made with); tokens_full, tokens_kept (cache entries per KV head, mean over layers), compression,
        bytes_full, bytes_kept; js_max (worst chunk), js_heldout, both in nats; seconds_load, seconds_compress,
        seconds_query, queries_per_second, peak_memory_bytes, layer_forwards; device, dtype; demonstrations_id, notes,
        run_id, path. Unknown numbers are NaN.
    others: as `runs`, one row per run and metric of its dataset besides the one that runs are compared by.
    layers: one row per chunk and layer, the columns of layers.csv after those of the run, and js_heldout (nats): on
        held-out queries, with only the layers from that one up pruned, the same for all chunks.
    records: path of record.json -> the record as it is stored.
    """

    runs: pd.DataFrame
    others: pd.DataFrame
    layers: pd.DataFrame
    records: dict[str, dict[str, Any]]
    problems: list[str]


def load(folders: Sequence[str | Path]) -> Loaded:
    """All finished runs in and below `folders` (a record.json itself may be given, too)."""
    roots = [Path(folder) for folder in folders]
    problems = list(dict.fromkeys(problem for root in roots for problem in _folder_problems(root)))
    found: dict[str, dict[str, Any]] = {}
    rows = []
    for path in _records(roots):
        try:
            record = _read(path)
            rows.append({**_row(record), "path": str(path)})
            found[str(path)] = record
        except _UnusableError as reason:
            problems.append(f"{path} {reason}; left out.")
    runs, repeated = _without_duplicates(pd.DataFrame(rows))
    runs = with_labels(runs, found)
    layers, damaged = _layers(runs, found)
    used = {path: found[path] for path in runs.get("path", ())}
    return Loaded(runs, _others(runs, used), layers, used, problems + repeated + damaged)


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


class _UnusableError(Exception):
    """Why a record cannot be used, as the rest of a sentence that begins with its path."""


def _folder_problems(root: Path) -> Iterator[str]:
    if not root.exists():
        yield f"{root} does not exist."
        return
    unfinished = sorted({path.parents[trace.count("/")] for trace in _TRACES for path in root.rglob(trace)})
    unfinished = [folder for folder in unfinished if not (folder / RECORD).exists()]
    yield from (f"{folder} is unfinished: {_progress(folder)}, but no {RECORD}." for folder in unfinished)
    if not unfinished and not _records([root]):
        yield f"{root} holds no runs: there is no {RECORD} in it or below it."


def _progress(folder: Path) -> str:
    predictions = folder / "predictions.jsonl"
    answered = len(predictions.read_bytes().splitlines()) if predictions.is_file() else 0
    return f"it has {answered} answered {'query' if answered == 1 else 'queries'}"


def _records(roots: Iterable[Path]) -> list[Path]:
    """Every record once, though folders may be given twice or lie in each other."""
    paths = [path for root in roots for path in ([root] if root.is_file() else sorted(root.rglob(RECORD)))]
    return list({path.resolve(): path for path in reversed(paths)}.values())[::-1]


def _read(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _UnusableError(f"cannot be read ({error})") from None
    if not isinstance(record, dict) or "schema" not in record:
        raise _UnusableError("is not a record of a run")
    if record["schema"] != SCHEMA:
        raise _UnusableError(f"is of schema {record['schema']}, but {SCHEMA} is what this version reads")
    if record.get("status") != "complete":
        raise _UnusableError(f"has the status {record.get('status')!r}, not 'complete'")
    return record


def _row(record: dict[str, Any]) -> dict[str, Any]:
    try:
        row = {**_identity(record), **_chosen(record), **_score(record["metric"]), **_cost(record)}
        for metric in record["other_metrics"]:
            _score(metric)  # read later, and damaged just as well
        provenance(record)
        return row
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, ArithmeticError) as error:
        raise _UnusableError(f"is damaged ({type(error).__name__}: {error})") from None


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
        "js_heldout": _number(js["heldout_mean"]),
        **{f"seconds_{part}": float(seconds[part]) for part in ("load", "compress", "query")},
        "queries_per_second": float(record["queries_per_second"]),
        "peak_memory_bytes": int(record["peak_memory_bytes"]),
        "layer_forwards": int(record["layer_forwards"]),
    }


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _without_duplicates(runs: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Every run once: the first folder counts, and sentences name the others."""
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


def _others(runs: pd.DataFrame, records: dict[str, dict[str, Any]]) -> pd.DataFrame:
    rows = [
        {**run, **_score(metric)} for run in runs.to_dict("records") for metric in records[run["path"]]["other_metrics"]
    ]
    return pd.DataFrame(rows, columns=runs.columns)


def _layers(runs: pd.DataFrame, records: dict[str, dict[str, Any]]) -> tuple[pd.DataFrame, list[str]]:
    tables, problems = [], []
    for run in runs.to_dict("records"):
        path = Path(run["path"]).with_name(LAYERS)
        heldout = dict(enumerate(records[run["path"]]["js"].get("heldout_per_layer") or []))
        try:
            table = _layer_table(path).assign(**{name: run[name] for name in _OF_THE_RUN})
            tables.append(table.assign(js_heldout=table["layer"].map(heldout).astype(float)))
        except (OSError, ValueError, KeyError) as error:
            problems.append(f"{path} cannot be read ({error}); its run is missing from the figures of layers.")
    columns = [*_OF_THE_RUN, *_LAYER_COLUMNS, "js_heldout"]
    filled = [table for table in tables if not table.empty]
    return pd.concat(filled)[columns].reset_index(drop=True) if filled else pd.DataFrame(columns=columns), problems


def _layer_table(path: Path) -> pd.DataFrame:
    table = pd.read_csv(path, usecols=list(_LAYER_COLUMNS), dtype={"candidates": str})
    numbers = [name for name in _LAYER_COLUMNS if name != "candidates"]
    return table.fillna({"candidates": ""}).astype({**dict.fromkeys(numbers, float), "chunk": int, "layer": int})
