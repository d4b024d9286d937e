"""Records of earlier versions, as this version would have written them.

Schema 2 (until November 2026) kept a method's options side by side, with the importance hidden in `observe`, and
counted the layer forwards that only measured the divergence among those of the compression.
"""

from collections.abc import Callable, Mapping
from typing import Any

from experiments.records.names import component

SCHEMA = 3
_OLDEST = 2

Node = Mapping[str, Any]


def upgraded(stored: dict[str, Any]) -> dict[str, Any]:
    """The stored record, brought to the present schema; one of an unknown schema comes back as it is.

    Its `run_id` stays: `rekey` gives runs the names of this version.
    """
    if stored.get("schema") != _OLDEST:
        return stored
    config = upgraded_config(stored["config"])
    measuring = _measuring_forwards(stored)
    return {
        **stored,
        "schema": SCHEMA,
        "config": config,
        "layer_forwards": stored["layer_forwards"] - measuring,
        "measuring_forwards": measuring,
    }


def upgraded_config(config: Node) -> dict[str, Any]:
    """The configuration with the method's options under the stage that reads them; as it is, if they are there."""
    method = config["method"]
    change = _METHODS.get(component(method))
    staged = any(isinstance(option, Mapping) for option in method.values())
    return {**config, "method": change(method) if change and not staged else dict(method)}


def _measuring_forwards(stored: Node) -> int:
    """Layer forwards that only measured: a fixed number per chunk and layer, by how a schedule chose its tokens."""
    per_layer = {"window": 2, "probes": 1}.get(stored["config"]["method"].get("observe", ""), 0)
    return per_layer * len(stored["js"]["final_per_chunk"]) * len(stored["context"]["tokens_kept_per_layer"])


def _emloc(method: Node) -> dict[str, Any]:
    search = {name: method[name] for name in ("delta", "ratios", "order", "group")}
    return {**_own(method, "chunk_size"), "importance": _ANSWERS, "allocation": {"_target_": _SEARCH, **search}}


def _emloc_video(method: Node) -> dict[str, Any]:
    search = {"delta": method["delta"], "ratios": method["ratios"], "order": "top_down", "group": method["group"]}
    return {
        **_own(method, "chunk_size", "window", "js_tokens"),
        "importance": _ANSWERS,
        "allocation": {"_target_": _SEARCH, **search},
    }


def _schedule(target: str, *options: str) -> Callable[[Node], dict[str, Any]]:
    def change(method: Node) -> dict[str, Any]:
        window = {"_target_": "emloc.importance.window.Window", "window": method["window"], "kernel": method["kernel"]}
        return {
            **_own(method, "chunk_size"),
            "importance": window if method["observe"] == "window" else _ANSWERS,
            "allocation": {"_target_": target, **{name: method[name] for name in options}},
        }

    return change


def _own(method: Node, *options: str) -> dict[str, Any]:
    return {name: method[name] for name in ("_target_", *options)}


_ANSWERS = {"_target_": "emloc.importance.answers.Answers"}
_SEARCH = "emloc.allocation.layer_search.LayerSearch"
_METHODS: Mapping[str, Callable[[Node], dict[str, Any]]] = {
    "emloc": _emloc,
    "emloc_video": _emloc_video,
    "snapkv": _schedule("emloc.allocation.uniform.Uniform", "budget"),
    "pyramidkv": _schedule("emloc.allocation.pyramid.Pyramid", "budget", "beta"),
}
