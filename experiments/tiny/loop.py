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


def _append(curve: Path, stage: str, step: int, numbers: dict[str, float]) -> None:
    new = not curve.exists()
    curve.parent.mkdir(parents=True, exist_ok=True)
    with curve.open("a") as file:
        if new:
            file.write("stage,step,name,value\n")
        file.writelines(f"{stage},{step},{name},{value:.5g}\n" for name, value in numbers.items())


def run_stage(
    name: str, module: nn.Module, schedule: Schedule, step_function: StepFunction, folder: Path, *,
    seed: int = 0, report_every: int = 20, save_every: int = 100, stop_after: int | None = None,
) -> bool:  # fmt: skip
    """Train `module` (its parameters with requires_grad) for one stage; True when the stage is finished.

    `folder/<name>.pt` holds weights, optimiser, generator and step; a later call goes on from there and ends with the
    same weights as an uninterrupted one. `stop_after` ends the call after so many steps (an interruption on purpose).
    """
    checkpoint, curve = folder / f"{name}.pt", folder / "curve.csv"
    parameters = [p for p in module.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(parameters, lr=schedule.rate, betas=(0.9, 0.98), weight_decay=schedule.weight_decay)
    generator, first = torch.Generator().manual_seed(seed), 0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        module.load_state_dict(state["module"])
        optimiser.load_state_dict(state["optimiser"])
        generator.set_state(state["generator"])
        first = state["step"]
    last, seen, began = schedule.steps, {}, time.monotonic()
    last = min(last, first + stop_after) if stop_after is not None else last
    for step in range(first, last):
        for group in optimiser.param_groups:
            group["lr"] = schedule.rate_at(step)
        loss, numbers = step_function(step, generator)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        for key, value in numbers.items():
            seen.setdefault(key, []).append(value)
        if (step + 1) % report_every == 0 or step + 1 == last:
            means = {key: sum(values) / len(values) for key, values in seen.items()}
            _append(curve, name, step + 1, means)
            text = "  ".join(f"{key} {value:.4g}" for key, value in means.items())
            print(f"{name} {step + 1}/{schedule.steps}  {text}  {time.monotonic() - began:.0f} s", flush=True)
            seen = {}
        if (step + 1) % save_every == 0 or step + 1 == last:
            state = {"module": module.state_dict(), "optimiser": optimiser.state_dict()}
            save_atomically({**state, "generator": generator.get_state(), "step": step + 1}, checkpoint)
    return last == schedule.steps
