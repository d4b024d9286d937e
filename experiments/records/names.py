"""What a run is called, and which options decide that: a readable name and a hash of what its result depends on.

Everything here takes the run's configuration as plain, resolved values, as record.json has it under `config`.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

# How a result is computed, what else is measured of it and where it goes, not what it is.
_HOW = {
    "hydra", "logger", "device", "model.device_map", "attn", "batch_size", "force", "save_memory", "save_kept",
    "on_error", "heldout_js", "heldout_layers",
}  # fmt: skip
# These count through the component that reads them: a method without a limit gives the same result, and has the same
# folder, at every delta.
_SHARED = {"chunk_size", "probe", "probes", "delta", "ratios", "budget", "demonstrations", "scoring"}
NOT_IDENTITY = frozenset(_HOW | _SHARED)

# An option at its neutral value changes nothing, so the name leaves it out, and an option that is added later renames
# no run that was made before. Null is neutral everywhere. Never change a row: it would rename recorded runs.
NEUTRAL: Mapping[str, object] = {
    "answer": "generate",
    "method.allocation.group": 1,
    "method.probe": "self",
    "method.probes": "all",
    "method.allocation.order": "top_down",
    "method.allocation.heads": "ragged",
    "method.allocation.head_weight": True,
    "method.refit._target_": "emloc.refit.none.NoRefit",
    "method.refit.crossfit": True,
    "model.trust_remote_code": False,
}

# The stages that a method's name promises, as conf/method/ has them: whoever shows a run of
# that method with others must say so.
USUAL: Mapping[str, Mapping[str, str]] = {
    "emloc": {"importance": "answers", "allocation": "layer_search"},
    "emloc_video": {"importance": "answers", "allocation": "layer_search"},
    "snapkv": {"importance": "window", "allocation": "uniform"},
    "emloc_plus": {"importance": "leave_one_out", "allocation": "water_filling", "refit": "values"},
    "pyramidkv": {"importance": "window", "allocation": "pyramid"},
    "kvzip": {"importance": "repetition", "allocation": "global_threshold"},
    "keydiff": {"importance": "key_difference", "allocation": "uniform"},
    "expected_attention": {"importance": "expected_attention", "allocation": "uniform"},
    "streaming": {"importance": "sinks_recent", "allocation": "uniform"},
    "random": {"importance": "random", "allocation": "uniform"},
    "attention_matching": {"importance": "rms_attention", "allocation": "global_threshold", "refit": "values"},
    "pyramidinfer": {"importance": "answer_attention", "allocation": "cosine"},
    "fastgen": {"importance": "answer_attention", "allocation": "policies"},
}

# Methods whose memory is held in another form than the bytes of their records: whoever shows a run of them must say so.
SIMULATED = frozenset({"quantised"})

# <method>-<dataset>-<model>-<shots>-<delta>-<hash>
RUN_NAME = re.compile(r"(?P<method>[^-/]+)-.+-\d+-(?P<delta>na|[\d.]+(?:e-\d+)?)-[0-9a-f]{8}")
NO_DELTA = "na"


def component(node: Mapping[str, Any]) -> str:
    """The name of a component: the file that its class is in (`emloc.methods.snapkv.SnapKV`: snapkv)."""
    return str(node["_target_"]).split(".")[-2]


def limit(method: Mapping[str, Any]) -> float | None:
    """The limit on the divergence among the options of a method, None if it has none."""
    return (method.get("allocation") or {}).get("delta")


def spends(method: Mapping[str, Any]) -> Mapping[str, Any]:
    """The part of a method's configuration that has its `budget`, if any: the method itself, or its allocation."""
    return method if "budget" in method else method.get("allocation") or {}


def flat(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every option under its dotted name, such as `method.allocation.delta`."""
    for key, value in node.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def identity(config: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a run's configuration that its result depends on, without options at their neutral value."""
    return _decisive({key: config[key] for key in sorted(config) if key not in NOT_IDENTITY})


def _decisive(node: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    # Left out, not set to the neutral value: a run made before the option existed does not have it at all.
    kept = {}
    for key, value in node.items():
        name = f"{prefix}{key}"
        if value is None or name in NOT_IDENTITY or (name in NEUTRAL and value == NEUTRAL[name]):
            continue
        part = _decisive(value, f"{name}.") if isinstance(value, Mapping) else value
        if part != {}:
            kept[key] = part
    return kept


def run_name(config: Mapping[str, Any]) -> str:
    """`<method>-<dataset>-<model>-<shots>-<delta>-<hash>`; the delta of a method without a limit is "na"."""
    delta = limit(config["method"])
    shown = [
        component(config["method"]),
        component(config["dataset"]),
        config["model"]["name"],
        config["shots"],
        NO_DELTA if delta is None else delta,
        digest(identity(config)),
    ]
    return "-".join(safe(part) for part in shown)


def digest(value: Any) -> str:
    """Eight hexadecimal digits that stand for plain values."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:8]


def safe(part: object) -> str:
    """The part of a name, without characters that a shell or a path could misread."""
    return re.sub(r"[^\w.,=-]+", "_", str(part)).strip("_")
