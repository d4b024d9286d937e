"""What the small sweep of the analysis' tests is made of, and how a test spoils a record of it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

SEEDS = (0, 1)
METHODS = ("emloc", "none", "snapkv", "zero_shot")
MATCHED = ("snapkv", "pyramidkv")  # at the context length of the first of VARIED
VARIED = (
    *([f"method={method}"] for method in METHODS),
    ["method=emloc", "shots=20"],
    ["method=none", "shots=20"],
    ["method=emloc", "delta=0.02"],
    ["method=emloc", "delta=0"],
)


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """Change the record in a run folder; returns its path."""
    path = folder / "record.json"
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))
    return path
