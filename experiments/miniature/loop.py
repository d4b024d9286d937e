"""The training loop that all stages share: schedule, checkpoints, resuming, and the curve."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

StepFunction = Callable[[int, torch.Generator], tuple[Tensor, dict[str, float]]]  # (step, generator) -> loss, numbers


@dataclass(frozen=True)
class Schedule:
    """How long a stage trains, and how fast."""

    steps: int
    rate: float  # the highest learning rate
    warmup: int = 30  # steps
    decay: float = 0.4  # the last part of the stage, over which the rate falls to a twentieth along a cosine
    weight_decay: float = 0.01

    def rate_at(self, step: int) -> float:
        """Learning rate of `step` (from 0)."""
        start = self.steps * (1 - self.decay)
        fall = min(1.0, max(0.0, (step - start) / max(1.0, self.steps - start)))
        return self.rate * min(1.0, (step + 1) / self.warmup) * (0.05 + 0.95 * (1 + math.cos(math.pi * fall)) / 2)


def save_atomically(state: object, path: Path) -> None:
    """torch.save that leaves either the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".part")
    torch.save(state, temporary)
    os.replace(temporary, path)


class Curve:
    """Means of the reported numbers, written to a CSV file (stage, step, name, value) and to the terminal."""

    def __init__(self, path: Path, stage: str, first: int) -> None:
        self.path, self.stage, self.began = path, stage, time.monotonic()
        self.seen: dict[str, list[float]] = {}
        header, *rows = path.read_text().splitlines() if path.exists() else ["stage,step,name,value"]
        # What an interrupted run wrote after its last checkpoint is about to be computed again.
        kept = [row for row in rows if not (row.startswith(f"{stage},") and int(row.split(",")[1]) > first)]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join([header, *kept]) + "\n")

    def add(self, numbers: dict[str, float]) -> None:
        """The numbers of one step."""
        for key, value in numbers.items():
            self.seen.setdefault(key, []).append(value)

    def report(self, step: int, steps: int) -> None:
        """Means since the last report."""
        means = {key: sum(values) / len(values) for key, values in self.seen.items()}
        with self.path.open("a") as file:
            file.writelines(f"{self.stage},{step},{name},{value:.5g}\n" for name, value in means.items())
        text = "  ".join(f"{key} {value:.4g}" for key, value in means.items())
        print(f"{self.stage} {step}/{steps}  {text}  {time.monotonic() - self.began:.0f} s", flush=True)
        self.seen = {}


@dataclass
class Training:
    """What a checkpoint holds."""

    module: nn.Module
    optimiser: torch.optim.Optimizer
    generator: torch.Generator
    step: int = 0

    def load(self, path: Path) -> None:
        """Everything as it was when `path` was saved."""
        state = torch.load(path, weights_only=True)
        self.module.load_state_dict(state["module"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.generator.set_state(state["generator"])
        self.step = state["step"]

    def save(self, path: Path) -> None:
        """Writes the checkpoint `path`."""
        state = {"module": self.module.state_dict(), "optimiser": self.optimiser.state_dict()}
        save_atomically({**state, "generator": self.generator.get_state(), "step": self.step}, path)

    def advance(self, rate: float, step_function: StepFunction) -> dict[str, float]:
        """One step at learning rate `rate`; returns the numbers to report."""
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        loss, numbers = step_function(self.step, self.generator)
        loss.backward()
        nn.utils.clip_grad_norm_([p for group in self.optimiser.param_groups for p in group["params"]], 1.0)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.step += 1
        return numbers


def run_stage(
    name: str, module: nn.Module, schedule: Schedule, step_function: StepFunction, folder: Path, *,
    seed: int = 0, report_every: int = 20, save_every: int = 100, stop_after: int | None = None,
) -> bool:  # fmt: skip
    """Train `module` (its parameters with requires_grad) for one stage; True when the stage is finished.

    `folder/<name>.pt` is the checkpoint; a later call goes on from there and ends with the same weights as an
    uninterrupted one. `stop_after` ends the call after so many steps (an interruption on purpose).
    """
    parameters = [p for p in module.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(parameters, lr=schedule.rate, betas=(0.9, 0.98), weight_decay=schedule.weight_decay)
    training = Training(module, optimiser, torch.Generator().manual_seed(seed))
    checkpoint = folder / f"{name}.pt"
    if checkpoint.exists():
        training.load(checkpoint)
    curve = Curve(folder / "curve.csv", name, training.step)
    last = schedule.steps if stop_after is None else min(schedule.steps, training.step + stop_after)
    while training.step < last:
        curve.add(training.advance(schedule.rate_at(training.step), step_function))
        ended = training.step == last
        if ended or training.step % report_every == 0:
            curve.report(training.step, schedule.steps)
        if ended or training.step % save_every == 0:
            training.save(checkpoint)
    return last == schedule.steps
