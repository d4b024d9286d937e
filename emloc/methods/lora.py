"""`lora`: fine-tuning on the demonstrations, which the paper compares with (LoRA, arXiv 2106.09685, by PEFT).

Adapters are trained on the demonstrations' answers, each demonstration by itself behind the system turn, just as a
query is asked. Nothing is left in the context. The paper's code only reads the predictions of a model that was trained
with LLaMA-Factory (public reference variant 14), without its settings. So rank, alpha, batch size, the schedule and
the parts that are trained are that tool's for LoRA (its example for Qwen2-VL). Its 3 epochs at 1e-4 are made for
thousands of examples and leave 40 unlearned: SmolLM2 on `kinds` (seed 5, 100 queries) had 0 % right with them, 46 % at
1e-3; with 10 epochs 7 % at 1e-4, 68 % at 3e-4, 78 % at 1e-3, which is the default here.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor

from emloc.adapters import Adapters, check_peft
from emloc.backbones.base import Backbone
from emloc.errors import UserError
from emloc.fine_tuning import Schedule, train
from emloc.memory import Memory
from emloc.methods.base import Method
from emloc.methods.loop import Progress, condense
from emloc.methods.trace import Cost, Reply, Trace, Training
from emloc.options import Count, CountOrZero, Range, Text
from emloc.prompt import Query
from emloc.rows import Row, concatenate


@dataclass(frozen=True)
class Adapted(Memory):
    """A memory without entries, and the adapters that queries are answered with; None if none were trained."""

    adapters: Adapters | None = None
    weights: Mapping[str, Tensor] = field(default_factory=dict)  # by their names in the decoder, float32

    def save(self, path: object) -> None:
        """UserError: a memory file has no place for adapters."""
        raise UserError(
            f"Expected a compressed memory to write to {path}, but lora leaves adapters and no memory; leave "
            "save_memory out."
        )


@dataclass(frozen=True, kw_only=True)
class LoRA(Method):
    """Low-rank changes of the weights, learned from the demonstrations; no context.

    Layer forwards are those of training, whose backward passes are not counted.

    Parameters
    ----------
    rank, alpha
        Of the adapters; what they add is multiplied by `alpha` / `rank`.
    targets
        The linear parts of every decoder layer that get one, such as `[q_proj, v_proj]`, or all.
    epochs, learning_rate, batch_size
        Of the training; see `emloc.fine_tuning.Schedule`. A batch is one optimiser step.
    seed
        Of the adapters' first values and of the order of the demonstrations.
    """

    name: ClassVar[str] = "lora"
    rank: Count = 8
    alpha: Annotated[float, Range(0, above=True)] = 16
    targets: Literal["all"] | tuple[Text, ...] = "all"
    epochs: Count = 10
    learning_rate: Annotated[float, Range(0, 1, above=True)] = 1e-3
    batch_size: Count = 8
    seed: CountOrZero = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.targets:
            raise UserError("Expected targets to name a part of the layers, or to be all, but got none.")
        check_peft()

    @torch.inference_mode()
    def trace_rows(self, backbone: Backbone, rows: Sequence[Row], *, progress: Progress | None = None) -> Trace:
        """The adapters that were trained on the rows, in a memory without entries."""
        begin, before = time.perf_counter(), backbone.layer_forwards
        nothing = condense(self, backbone, [])
        if not rows:
            return replace(nothing, memory=Adapted(**vars(nothing.memory)))
        adapters = self._adapters(backbone)
        opened = [concatenate([backbone.system_row(), row]) for row in rows]
        with _learning(self.seed), adapters.inside(backbone) as weights:
            losses = train(backbone, opened, [*weights.values()], self.schedule, progress=progress)
            learned = {name: weight.detach().clone() for name, weight in weights.items()}
        cost = Cost(backbone.layer_forwards - before, time.perf_counter() - begin)
        memory = Adapted(**vars(nothing.memory), adapters=adapters, weights=learned)
        return replace(nothing, memory=memory, deciding=cost, trained=self._told(learned, losses))

    def answer(
        self, backbone: Backbone, queries: Sequence[Query], memory: Memory, *, max_new_tokens: int, batch_size: int
    ) -> list[Reply]:
        """As `Method.answer`, by the adapted model; afterwards the backbone is as it was."""
        with _adapted(backbone, memory):
            return super().answer(backbone, queries, memory, max_new_tokens=max_new_tokens, batch_size=batch_size)

    def choose(
        self, backbone: Backbone, queries: Sequence[Query], choices: Sequence[str], memory: Memory, *, batch_size: int
    ) -> list[Reply]:
        """As `Method.choose`, by the adapted model; afterwards the backbone is as it was."""
        with _adapted(backbone, memory):
            return super().choose(backbone, queries, choices, memory, batch_size=batch_size)

    @property
    def schedule(self) -> Schedule:
        return Schedule(self.epochs, self.learning_rate, self.batch_size, self.seed)

    def _adapters(self, backbone: Backbone) -> Adapters:
        targets = None if self.targets == "all" else self.targets
        return Adapters.of(backbone, rank=self.rank, alpha=self.alpha, targets=targets)

    def _told(self, learned: Mapping[str, Tensor], losses: Sequence[float]) -> Training:
        return Training(
            parameters=sum(weight.numel() for weight in learned.values()),
            bytes=sum(weight.nbytes for weight in learned.values()),
            epochs=self.epochs,
            steps=len(losses),
            first_loss=losses[0],
            last_loss=losses[-1],
        )


@contextmanager
def _adapted(backbone: Backbone, memory: Memory) -> Iterator[None]:
    """The backbone with the memory's adapters inside, for the time of the block; UserError if it is not lora's."""
    if not isinstance(memory, Adapted) or memory.fingerprint != backbone.fingerprint:
        raise UserError(
            "Expected the memory that lora made with this model, which has its adapters, but got another one; compress "
            "the demonstrations with this method first."
        )
    if memory.adapters is None:
        yield
        return
    with memory.adapters.inside(backbone, memory.weights):
        yield


@contextmanager
def _learning(seed: int) -> Iterator[None]:
    """Gradients are recorded, and the CPU's random numbers, which PEFT draws, are as `seed` gives them.

    Afterwards all is as before: whoever draws next gets what would have been next without this.
    """
    with torch.random.fork_rng(devices=[]), torch.inference_mode(False), torch.enable_grad():
        torch.default_generator.manual_seed(seed)
        yield
