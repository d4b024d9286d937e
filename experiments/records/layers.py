"""layers.csv: one row per chunk and layer."""

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

# Tokens are per KV head, as means over heads. ratio = tokens_kept / tokens_before. js: the state after this layer's
# decision, in nats; empty where no layer was decided by itself. candidates: every trial, as ratio:js;ratio:js...
COLUMNS = (
    "chunk", "layer", "tokens_before", "tokens_kept", "ratio", "js", "image_kept", "question_kept", "answer_kept",
    "candidates",
)  # fmt: skip


def write_layers(path: Path, rows: Iterable[Sequence[object]]) -> None:
    """Write the file; every row has a value for each of `COLUMNS`."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows(rows)
