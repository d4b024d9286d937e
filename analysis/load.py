"""Folders of runs -> one tidy table, one row per finished run."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

SCHEMA = 1


def load_runs(folders: Sequence[str | Path]) -> tuple[pd.DataFrame, list[str]]:
    """All finished runs below `folders`, and one sentence for each folder that is not one.

    Columns: method, dataset, model, shots, delta, seed; metric, value, stderr, n; tokens_full, tokens_kept,
    compression, megabytes; js_max, heldout_js; seconds_compress, seconds_query; path. Divergences are in nats.
    """
    rows, problems = [], []
    for path in _records(folders):
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            problems.append(f"{path} cannot be read ({error}).")
            continue
        if record.get("schema") != SCHEMA or record.get("status") != "complete":
            problems.append(f"{path} is of schema {record.get('schema')} and {record.get('status')}; left out.")
            continue
        rows.append({**_row(record), "path": str(path)})
    problems += [f"{folder} holds no record.json below it." for folder in folders if not list(_records([folder]))]
    problems += [f"{folder} is unfinished: it has predictions but no record.json." for folder in _unfinished(folders)]
    return pd.DataFrame(rows), problems


def _records(folders: Sequence[str | Path]) -> Iterable[Path]:
    return (path for folder in folders for path in sorted(Path(folder).rglob("record.json")))


def _unfinished(folders: Sequence[str | Path]) -> list[Path]:
    found = [path.parent for folder in folders for path in sorted(Path(folder).rglob("predictions.jsonl"))]
    return [folder for folder in found if not (folder / "record.json").is_file()]


def _row(record: dict[str, Any]) -> dict[str, Any]:
    config, metric, context, js = record["config"], record["metric"], record["context"], record["js"]
    return {
        "method": _module(config["method"]),
        "dataset": _module(config["dataset"]),
        "model": config["model"]["name"],
        "shots": config["shots"],
        "delta": js["delta"],
        "seed": config["seed"],
        "metric": metric["name"],
        "value": metric["value"],
        "stderr": metric["stderr"],
        "n": metric["n"],
        "tokens_full": context["tokens_full"],
        "tokens_kept": context["tokens_kept_mean"],
        "compression": context["compression"],
        "megabytes": context["bytes_kept"] / 1e6,
        "js_max": max(js["final_per_chunk"], default=None),
        "heldout_js": js["heldout_mean"],
        "seconds_compress": record["seconds"]["compress"],
        "seconds_query": record["seconds"]["query"],
    }


def _module(node: dict[str, Any]) -> str:
    """The name of a component: the file that its class is in."""
    return node["_target_"].split(".")[-2]
