"""EMLoC: training-free adaptation of multimodal language models by compressed many-shot context.

    from emloc import Demonstration, EMLoC, Memory, Query, load_backbone

    backbone = load_backbone("Qwen/Qwen2-VL-7B-Instruct")
    memory = EMLoC(delta=0.005).compress(backbone, demonstrations)      # adapt once ...
    memory.save("task.safetensors")                                     # ... ship a file of a few MB
    backbone.answer([Query(image, "What is this?")], Memory.load("task.safetensors", backbone))

A model that is loaded already comes in by `Backbone.from_model(model, tokenizer, image_processor)`, and transformers'
own generation goes over a memory by `backbone.generate(query, memory, num_beams=4)`.

Read it in this order: `prompt` and `rows` (what the model is given), `memory` and `attention` (what it looks at),
`passes` (prefill, probe, rerun), `region` (what is decided, and how its cost is measured), `importance`, `allocation`
and `refit` (the decision; `scores` and `head_outputs` have the formulas), `methods` (the loop and the named methods),
`answering` and `ranking`. Only `backbones` knows transformers.

What a demonstration or a query shows is an image, the path of one, `Video(path, frames=8)`, or None.

Shapes in signatures: B rows of a batch, T tokens, N tokens of a chunk, H_q query heads, H_kv KV heads, G query heads
per KV head, Q query positions in all heads of a group, D head size, C hidden size, L layers, A answer positions,
V vocabulary, P position axes (3 with mRoPE).
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from emloc.allocation.base import Allocation as Allocation
    from emloc.allocation.cosine import Cosine as Cosine
    from emloc.allocation.global_threshold import GlobalThreshold as GlobalThreshold
    from emloc.allocation.layer_search import LayerSearch as LayerSearch
    from emloc.allocation.policies import Policies as Policies
    from emloc.allocation.pyramid import Pyramid as Pyramid
    from emloc.allocation.top_p import TopP as TopP
    from emloc.allocation.uniform import Uniform as Uniform
    from emloc.allocation.water_filling import WaterFilling as WaterFilling
    from emloc.backbones.base import Backbone as Backbone
    from emloc.errors import UserError as UserError
    from emloc.importance.answer_attention import AnswerAttention as AnswerAttention
    from emloc.importance.answers import Answers as Answers
    from emloc.importance.base import Importance as Importance
    from emloc.importance.ensemble import Ensemble as Ensemble
    from emloc.importance.expected_attention import ExpectedAttention as ExpectedAttention
    from emloc.importance.key_difference import KeyDifference as KeyDifference
    from emloc.importance.leave_one_out import LeaveOneOut as LeaveOneOut
    from emloc.importance.random import RandomScores as RandomScores
    from emloc.importance.repetition import Repetition as Repetition
    from emloc.importance.rms_attention import RmsAttention as RmsAttention
    from emloc.importance.sinks_recent import SinksRecent as SinksRecent
    from emloc.importance.value_weighted import ValueWeighted as ValueWeighted
    from emloc.importance.window import Window as Window
    from emloc.loading import load_backbone as load_backbone
    from emloc.memory import Memory as Memory
    from emloc.methods.attention_matching import AttentionMatching as AttentionMatching
    from emloc.methods.base import Method as Method
    from emloc.methods.emloc import EMLoC as EMLoC
    from emloc.methods.emloc_plus import EMLoCPlus as EMLoCPlus
    from emloc.methods.emloc_video import EMLoCVideo as EMLoCVideo
    from emloc.methods.expected_attention import ExpectedAttentionKV as ExpectedAttentionKV
    from emloc.methods.fastgen import FastGen as FastGen
    from emloc.methods.fewer_shots import FewerShots as FewerShots
    from emloc.methods.keydiff import KeyDiff as KeyDiff
    from emloc.methods.kvzip import KVzip as KVzip
    from emloc.methods.lora import LoRA as LoRA
    from emloc.methods.none import NoPruning as NoPruning
    from emloc.methods.pyramidinfer import PyramidInfer as PyramidInfer
    from emloc.methods.pyramidkv import PyramidKV as PyramidKV
    from emloc.methods.quantised import Quantised as Quantised
    from emloc.methods.random import RandomTokens as RandomTokens
    from emloc.methods.rices import RICES as RICES
    from emloc.methods.snapkv import SnapKV as SnapKV
    from emloc.methods.streaming import StreamingLLM as StreamingLLM
    from emloc.methods.trace import Reply as Reply
    from emloc.methods.trace import Trace as Trace
    from emloc.methods.zero_shot import ZeroShot as ZeroShot
    from emloc.prompt import Demonstration as Demonstration
    from emloc.prompt import Query as Query
    from emloc.refit.base import Refit as Refit
    from emloc.refit.values import Values as Values
    from emloc.video import Video as Video

# Loaded when they are first used: torch and transformers take seconds, and much needs neither of them.
_HOMES = {
    "PyramidInfer": "emloc.methods.pyramidinfer",
    "FastGen": "emloc.methods.fastgen",
    "AttentionMatching": "emloc.methods.attention_matching",
    "Policies": "emloc.allocation.policies",
    "Cosine": "emloc.allocation.cosine",
    "Ensemble": "emloc.importance.ensemble",
    "RmsAttention": "emloc.importance.rms_attention",
    "AnswerAttention": "emloc.importance.answer_attention",
    "RICES": "emloc.methods.rices",
    "ExpectedAttentionKV": "emloc.methods.expected_attention",
    "FewerShots": "emloc.methods.fewer_shots",
    "KVzip": "emloc.methods.kvzip",
    "KeyDiff": "emloc.methods.keydiff",
    "LoRA": "emloc.methods.lora",
    "Quantised": "emloc.methods.quantised",
    "RandomTokens": "emloc.methods.random",
    "StreamingLLM": "emloc.methods.streaming",
    "GlobalThreshold": "emloc.allocation.global_threshold",
    "TopP": "emloc.allocation.top_p",
    "ExpectedAttention": "emloc.importance.expected_attention",
    "KeyDifference": "emloc.importance.key_difference",
    "RandomScores": "emloc.importance.random",
    "Repetition": "emloc.importance.repetition",
    "SinksRecent": "emloc.importance.sinks_recent",
    "ValueWeighted": "emloc.importance.value_weighted",
    "Pyramid": "emloc.allocation.pyramid",
    "WaterFilling": "emloc.allocation.water_filling",
    "Uniform": "emloc.allocation.uniform",
    "LayerSearch": "emloc.allocation.layer_search",
    "Allocation": "emloc.allocation.base",
    "Backbone": "emloc.backbones.base",
    "Importance": "emloc.importance.base",
    "LeaveOneOut": "emloc.importance.leave_one_out",
    "Window": "emloc.importance.window",
    "Answers": "emloc.importance.answers",
    "UserError": "emloc.errors",
    "load_backbone": "emloc.loading",
    "Memory": "emloc.memory",
    "Method": "emloc.methods.base",
    "EMLoC": "emloc.methods.emloc",
    "EMLoCPlus": "emloc.methods.emloc_plus",
    "EMLoCVideo": "emloc.methods.emloc_video",
    "NoPruning": "emloc.methods.none",
    "PyramidKV": "emloc.methods.pyramidkv",
    "SnapKV": "emloc.methods.snapkv",
    "Reply": "emloc.methods.trace",
    "Trace": "emloc.methods.trace",
    "ZeroShot": "emloc.methods.zero_shot",
    "Demonstration": "emloc.prompt",
    "Query": "emloc.prompt",
    "Refit": "emloc.refit.base",
    "Values": "emloc.refit.values",
    "Video": "emloc.video",
}
__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
