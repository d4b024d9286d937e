"""The files of a run's folder, by name, and how to write one so that nobody ever reads half of it."""

import os
from pathlib import Path

RECORD = "record.json"  # written last: where it is, the run is complete
LAYERS = "layers.csv"
PREDICTIONS = "predictions.jsonl"
PICTURE = "layers.png"
MEMORY = "memory.safetensors"
KEPT = "kept.npz"
LOG = "run.log"
CLAIM = ".hydra/run.json"  # which run the folder belongs to

RESULTS = (RECORD, PREDICTIONS, LAYERS, PICTURE, MEMORY, KEPT)
TRACES = (PREDICTIONS, LAYERS, CLAIM)  # any of them without a record: a run that was begun and has not finished


def write_atomically(path: Path, text: str) -> None:
    """Write a text file so that a reader, or a crash, never sees half of it."""
    partial = path.with_name(f"{path.name}.partial")
    with partial.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())  # else a power cut can leave the new name with no content
    partial.replace(path)
