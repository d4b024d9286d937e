"""Every method, importance and allocation, once: what is added gets its row here, and the general tests run on it."""

from dataclasses import dataclass
from typing import ClassVar

from emloc import (
    RICES,
    Allocation,
    AnswerAttention,
    Answers,
    AttentionMatching,
    Cosine,
    EMLoC,
    EMLoCPlus,
    EMLoCVideo,
    Ensemble,
    ExpectedAttention,
    ExpectedAttentionKV,
    FastGen,
    FewerShots,
    GlobalThreshold,
    Importance,
    KeyDiff,
    KeyDifference,
    KVzip,
    LayerSearch,
    LeaveOneOut,
    LoRA,
    Method,
    NoPruning,
    Policies,
    Pyramid,
    PyramidInfer,
    PyramidKV,
    Quantised,
    RandomScores,
    RandomTokens,
    Repetition,
    RmsAttention,
    SinksRecent,
    SnapKV,
    StreamingLLM,
    TopP,
    Uniform,
    Values,
    ValueWeighted,
    WaterFilling,
    Window,
    ZeroShot,
)
from emloc.allocation.base import Decision, Share
from emloc.importance.base import Scope
from emloc.region import Measure, Region

IMPORTANCES: tuple[Importance, ...] = (
    Answers(),
    AnswerAttention(),
    Ensemble(window=8),
    ExpectedAttention(future=16),
    KeyDifference(),
    LeaveOneOut(),
    RandomScores(),
    Repetition(),
    RmsAttention(),
    SinksRecent(),
    ValueWeighted(),
    Window(window=8),
)
ALLOCATIONS: tuple[Allocation, ...] = (
    Uniform(budget=0.4),
    Pyramid(budget=0.4),
    LayerSearch(delta=0.02),
    WaterFilling(delta=0.02),
    GlobalThreshold(budget=0.4),
    TopP(p=0.8),
    Cosine(budget=0.4, least=6),
    Policies(recovered=0.5),
)

# Not all pairs, which would take the tests minutes: every importance with an allocation of equal and one of unequal
# heads, every allocation with an importance of chunks and with one of the whole context that reserves tokens.
CROSSED = [
    (one, other)
    for one in IMPORTANCES
    for other in ALLOCATIONS
    if isinstance(one, Answers | Window) or isinstance(other, Uniform | GlobalThreshold)
]


@dataclass(frozen=True, kw_only=True)
class Dropper(Method):
    """A method that throws tokens away and measures nothing: it keeps every fifth, at the very end if so told.

    It stands for whatever a method might do without saying so. The loop has to notice.
    """

    name: ClassVar[str] = "dropper"
    last: bool = False

    @property
    def scope(self) -> Scope:
        return "context" if self.last else "chunk"

    def decide(self, region: Region, share: Share, measure: Measure) -> Decision:
        return Decision([layer.index.argsort(dim=-1)[:, ::5] for layer in region.chunk.layers])


METHODS: tuple[Method, ...] = (
    EMLoC(delta=0.02, chunk_size=4),
    EMLoC(allocation=LayerSearch(delta=0.02, order="bottom_up"), chunk_size=4),
    EMLoC(allocation=LayerSearch(delta=0.02, group=3), chunk_size=4),
    EMLoC(delta=0.02, chunk_size=4, probe="heldout"),
    EMLoC(delta=0.02, chunk_size=4, probe="heldout", probes=2),
    EMLoCVideo(chunk_size=4),
    EMLoCPlus(delta=0.02, chunk_size=4),
    EMLoCPlus(delta=0.02, chunk_size=4, refit=None),
    EMLoCPlus(delta=0.02, chunk_size=4, refit=Values(crossfit=False)),
    EMLoCPlus(allocation=WaterFilling(delta=0.02, heads="equal", head_weight=False), chunk_size=4, probes=3),
    Method(importance=Answers(), allocation=Uniform(budget=0.3), refit=Values(), chunk_size=4),
    Method(importance=Window(window=8), allocation=WaterFilling(delta=0.05), refit=Values(), chunk_size=4),
    NoPruning(chunk_size=4),
    ZeroShot(chunk_size=4),
    SnapKV(importance=Window(window=8), allocation=Uniform(budget=0.4), chunk_size=4),
    SnapKV(importance=Answers(), allocation=Uniform(budget=100), chunk_size=4),
    PyramidKV(importance=Window(window=8), allocation=Pyramid(budget=0.4), chunk_size=4),
    PyramidKV(importance=Answers(), allocation=Pyramid(budget=0.3), chunk_size=4),
    KVzip(allocation=GlobalThreshold(budget=0.3), chunk_size=4),
    KeyDiff(allocation=Uniform(budget=0.3), chunk_size=4),
    ExpectedAttentionKV(allocation=Uniform(budget=0.3), chunk_size=4),
    StreamingLLM(allocation=Uniform(budget=0.3), chunk_size=4),
    RandomTokens(allocation=Uniform(budget=0.3), chunk_size=4),
    AttentionMatching(allocation=GlobalThreshold(budget=0.3), chunk_size=4),
    PyramidInfer(allocation=Cosine(budget=0.3), chunk_size=4),
    FastGen(chunk_size=4),
    FewerShots(budget=0.7, chunk_size=4),
    FewerShots(budget=1, chunk_size=4),
    RICES(budget=0.5, chunk_size=4),
    Quantised(bits=8, chunk_size=4),
    Quantised(bits=4, group=24, chunk_size=4),
    LoRA(rank=2, epochs=2, batch_size=4, chunk_size=4),
    *(Method(importance=one, allocation=other, chunk_size=4) for one, other in CROSSED),
    Dropper(chunk_size=4),
    Dropper(chunk_size=4, last=True),
)
