"""A record for tests, with every field filled in."""

from experiments.records.schema import (
    Answers,
    Chosen,
    ContextSize,
    Divergence,
    Literal,
    Mean,
    Metric,
    Record,
    Seconds,
)
from experiments.records.upgrade import SCHEMA

RECORD = Record(
    schema=SCHEMA,
    status="complete",
    run_id="emloc-digits-tiny-200-0.005-0a1b2c3d",
    config={"shots": 200},
    demonstrations_id="0011",
    demonstrations=Chosen("balanced", ["a", "b"]),
    prompt_fingerprint={"question": Literal(13, "00ff")},
    answers=Answers(True, {"cat": "bodi"}),
    metric=Metric("accuracy", 0.875, 0.0123, 1000, True, {"cat": Mean(0.875, 0.0123, 1000)}),
    other_metrics=[Metric("IoU", 0.5, None, 1, True, {}, "")],
    skipped={"c": "it is no image"},
    context=ContextSize(6600, 1320.5, [1320, 1321], 4.9981, 54_000_000, 10_800_000),
    js=Divergence(0.005, [0.001, 0.0042], None),
    layer_forwards=1234,
    measuring_forwards=56,
    seconds=Seconds(1.0, 20.0, 30.0),
    queries_per_second=33.3,
    peak_memory_bytes=650_000_000,
    device="cpu",
    dtype="float32",
    versions={"python": "3.11"},
    git=None,
    notes=["nothing was pruned"],
)
