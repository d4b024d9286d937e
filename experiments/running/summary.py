"""The table that a run prints."""

from experiments.records.schema import ContextSize, Divergence, Metric, Record

_MB = 1e6


def summary(record: Record) -> str:
    """The record in a few aligned lines."""
    rows = [
        *((metric.name, _score(metric)) for metric in (record.metric, *record.other_metrics)),
        *((f"  {name}", f"{100 * value:.1f} %") for name, value in record.baselines.items()),
        ("context", _context(record.context)),
        ("memory", f"{record.context.bytes_full / _MB:.2f} -> {record.context.bytes_kept / _MB:.2f} MB"),
        ("JS", _divergence(record.js, "queries" if record.context.per_query else "chunks")),
        ("time", _time(record)),
        ("peak memory", f"{record.peak_memory_bytes / _MB:,.0f} MB on {record.device}, {record.dtype}"),
        *(("note", note) for note in record.notes),
    ]
    width = max(len(name) for name, _ in rows)
    return "\n".join([record.run_id, *(f"  {name:<{width}}  {text}" for name, text in rows)])


def _score(metric: Metric) -> str:
    stderr = "" if metric.stderr is None else f", standard error {100 * metric.stderr:.1f}"
    unit = f" {metric.unit}" if metric.unit else ""
    return f"{100 * metric.value:.1f}{unit}  (n = {metric.n:,}{stderr})"


def _context(size: ContextSize) -> str:
    over = "queries and layers" if size.per_query else "layers"
    lengths = f"{size.tokens_full:,} -> {size.tokens_kept_mean:,.1f} tokens (mean over {over})"
    return lengths if size.compression is None else f"{lengths}, {size.compression:.2f}x compression"


def _divergence(js: Divergence, chunks: str) -> str:
    parts = []
    if js.final_per_chunk:
        parts.append(f"{_nats(max(js.final_per_chunk))} in the worst of {len(js.final_per_chunk)} {chunks}")
    if any(js.crossfit_per_chunk or []):
        parts.append(f"{_nats(max(filter(None, js.crossfit_per_chunk or [])))} on demonstrations left out of the fit")
    if js.delta is not None:
        parts.append(f"limit {js.delta:g}")
    if js.heldout_mean is not None:
        same = "" if js.agreement is None else f" ({100 * js.agreement:.0f} % answered as with the whole context)"
        parts.append(f"{_nats(js.heldout_mean)} on held-out queries{same}")
    return ", ".join(parts) or "no context"


def _nats(js: float) -> str:
    """Five digits, unless they would show nothing of a divergence that is not 0."""
    return f"{js:.5f}" if js == 0 or js >= 1e-5 else f"{js:.0e}"


def _time(record: Record) -> str:
    seconds = record.seconds
    total = seconds.load + seconds.compress + seconds.query
    return (
        f"{total:.1f} s  (load {seconds.load:.1f}, compress {seconds.compress:.1f}, queries {seconds.query:.1f}: "
        f"{record.queries_per_second:.1f} queries/s)"
    )
