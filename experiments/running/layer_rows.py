"""From a trace to the rows of layers.csv."""

from collections.abc import Iterator
from pathlib import Path

from emloc.methods.trace import ChunkTrace, LayerCount, Trace
from experiments.records import layers


def write_layers(path: Path, trace: Trace) -> None:
    """Write layers.csv: what every layer kept of every chunk, and the trials that led there."""
    layers.write_layers(path, _rows(trace))


def _rows(trace: Trace) -> Iterator[list[object]]:
    for count in trace.layer_counts():
        yield _row(count, trace.chunks[count.chunk])


def _row(count: LayerCount, chunk: ChunkTrace) -> list[object]:
    tried = [f"{trial.ratio:g}:{trial.js:.9g}" for trial in chunk.candidates if trial.layer == count.layer]
    return [
        count.chunk,
        count.layer,
        count.tokens_before,
        count.tokens_kept,
        count.tokens_kept / count.tokens_before,
        chunk.layer_js[count.layer] if chunk.layer_js else "",
        count.image_kept,
        count.question_kept,
        count.answer_kept,
        ";".join(tried),
    ]
