"""Scores by kvpress, for `tests.kvpress_parity`: run by the Python of an environment that has kvpress.

python kvpress_scores.py CHECKPOINT GIVEN.pt SCORES.pt
"""

import sys
from collections.abc import Callable
from typing import Any

import torch
from kvpress import ExpectedAttentionPress, KeyDiffPress, KVzipPress, SnapKVPress
from torch import Tensor
from transformers import AutoModelForCausalLM, DynamicCache

# Called with an attention module, the layer's input (1, T, C), all its keys and values, and what it was called with.
Score = Callable[[Any, Tensor, Tensor, Tensor, dict[str, Any]], Tensor]


def watched(model: Any, ids: Tensor, cache: DynamicCache, score: Score) -> Tensor:
    """Scores (L, H_kv, N) of a run of ids (T,) over a cache, which grows by them; nothing is pruned."""
    found: list[Tensor] = []

    def hook(module: Any, _args: Any, named: dict[str, Any], _output: Any) -> None:
        layer = cache.layers[module.layer_idx]
        found.append(score(module, named["hidden_states"], layer.keys, layer.values, named))

    hooks = [each.self_attn.register_forward_hook(hook, with_kwargs=True) for each in model.model.layers]
    model(input_ids=ids[None], past_key_values=cache, use_cache=True)
    for one in hooks:
        one.remove()
    return torch.stack(found)[:, 0]


def pressed(press: Any) -> Score:
    """A press's own scores of a context."""
    return lambda module, hidden, keys, values, named: press.score(module, hidden, keys, values, None, named)


def repeated(press: KVzipPress, model: Any, context: int) -> Score:
    """KVzip's own scores of a context of so many tokens, when it is repeated."""
    config = model.config
    press.start_idx, press.end_idx, press.context_length = 0, context, context
    press.score_val = torch.zeros(config.num_hidden_layers, 1, config.num_key_value_heads, context)

    def score(module: Any, hidden: Tensor, keys: Tensor, values: Tensor, named: dict[str, Any]) -> Tensor:
        press.score_kvzip(module, hidden, keys, values, None, named)
        return press.score_val[module.layer_idx]

    return score


@torch.inference_mode()
def main(checkpoint: str, given_path: str, scores_path: str) -> None:
    """Read ids and options, write the scores of every press."""
    given = torch.load(given_path)
    model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32, attn_implementation="sdpa")
    for layer in model.model.layers:
        layer.self_attn.rotary_emb = model.model.rotary_emb  # as kvpress does before it runs
    presses = {
        "key_difference": KeyDiffPress(0.5),
        "window": SnapKVPress(0.5, window_size=given["window"], kernel_size=5),
        "expected_attention": ExpectedAttentionPress(0.5, n_future_positions=given["future"], n_sink=given["sinks"]),
    }
    context, row = given["context"], given["row"]
    scores = {name: watched(model, context, DynamicCache(), pressed(press)) for name, press in presses.items()}
    cache = DynamicCache()
    model(input_ids=context[None], past_key_values=cache, use_cache=True)
    scores["repetition"] = watched(model, row, cache, repeated(KVzipPress(0.5), model, len(context)))
    torch.save(scores, scores_path)


if __name__ == "__main__":
    main(*sys.argv[1:])
