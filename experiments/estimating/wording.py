"""Estimates in lines for people."""

from dataclasses import asdict
from typing import Any

from experiments.estimating.forecast import Forecast
from experiments.estimating.machine import Machine
from experiments.estimating.memory import Estimate

_MB, _GB = 1e6, 1e9
_FEWER = "the method shows fewer demonstrations than these, which it chooses itself; the figures are of all of them"
_OWN = "each query about a video condenses a context of its own, which is not counted here"


def gigabytes(count: float) -> str:
    """Bytes in MB or GB, three digits."""
    return f"{count / _MB:,.0f} MB" if count < _GB else f"{count / _GB:,.2f} GB"


def memory_lines(memory: Estimate) -> list[str]:
    """One line per part of the estimate, and the peak."""
    kept = gigabytes(memory.memory_least)
    if memory.memory_most != memory.memory_least:
        kept += f" to {gigabytes(memory.memory_most)}"
    rows = [
        ("process", gigabytes(memory.process), "Python and its libraries, measured here"),
        ("weights", gigabytes(memory.weights), ""),
        ("context", gigabytes(memory.rows), "the demonstrations, embedded"),
        ("memory", f"{gigabytes(memory.memory_full)} -> {kept}", "keys and values, whole and compressed"),
        ("loading", gigabytes(memory.loading), "files of another number type, while they are read"),
        ("encoding", gigabytes(memory.encoding), "images of one batch in the vision tower"),
        ("prefill", gigabytes(memory.prefill), "a chunk over the memory before it"),
        ("deciding", gigabytes(memory.deciding), "probes and trials of a chunk"),
        ("answering", gigabytes(memory.answering), "a batch of queries over the memory"),
        ("peak", gigabytes(memory.peak), "process, weights, context and the largest phase: loading to answering"),
    ]
    return [f"  {name:<12}{value:<30}{meaning}".rstrip() for name, value, meaning in rows]


def forecast_lines(found: Forecast) -> list[str]:
    """The estimate of a run: its context, layer forwards and memory."""
    shots, queries = len(found.context.demonstrations.lengths), found.queries
    sampled = "" if found.counted == shots else f"; {found.counted} were counted, the others taken to be like them"
    chunks = len(found.context.chunks)
    tokens = f"{found.context.tokens:,} of {shots} demonstrations, chunks: {chunks}{sampled}"
    if found.context.trained:
        tokens = f"none in the context; {shots} demonstrations are trained on{sampled}"
    cost = found.forwards
    rows = [
        ("tokens", tokens),
        ("queries", f"{queries.count:,}, batches: {queries.batches:,}"),
        *([("not in it", _OWN)] if found.own_contexts else []),
        *([] if found.foreseen else [("too much", _FEWER)]),
        ("layers run", f"{cost.deciding} to compress, {cost.measuring} to measure, {cost.answering} to answer"),
    ]
    return [*(f"  {name:<12}{text}" for name, text in rows), *memory_lines(found.memory)]


def machine_lines(machine: Machine) -> list[str]:
    """Versions, devices, the attention kernel and the extras."""
    here = [name for name, missing in machine.extras.items() if not missing]
    lacking = [f"{name} ({', '.join(missing)})" for name, missing in machine.extras.items() if missing]
    free = "" if machine.free is None else f", {gigabytes(machine.free)} free"
    rows = [
        ("versions", ", ".join(f"{name} {number}" for name, number in machine.versions.items())),
        ("devices", ", ".join(machine.devices)),
        ("taken", f"{machine.device}{free}"),
        ("attention", machine.attention),
        ("extras", ", ".join(here) or "none"),
        *([("missing", ", ".join(lacking))] if lacking else []),
    ]
    return [f"  {name:<12}{text}" for name, text in rows]


def as_plain(run_id: str, machine: Machine, found: Forecast | None, unknown: str | None) -> dict[str, Any]:
    """Everything that the lines say, as values for JSON; sizes in bytes."""
    estimate = None if found is None else {
        "device": str(found.device),
        "dtype": str(found.dtype).removeprefix("torch."),
        "tokens": found.context.tokens,
        "chunks": found.context.chunk_tokens,
        "demonstrations": len(found.context.demonstrations.lengths),
        "counted": found.counted,
        "own_contexts": found.own_contexts,
        "queries": found.queries.count,
        "memory": found.memory.as_dict(),
        "layer_forwards": asdict(found.forwards),
    }  # fmt: skip
    return {"run_id": run_id, "machine": asdict(machine), "estimate": estimate, "unknown": unknown}
