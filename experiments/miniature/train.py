"""Trains the embedded model `emloc/assets/tiny` from seeds: `python -m experiments.miniature.train`.

Stages run in order, each from the weights of the last; `STAGES` below are exactly the stages that made the committed
weights. An interrupted training goes on where it was when the same command is run again. docs/TINY_MODEL.md tells what
the stages are for, how long they took and what came of them.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast, Qwen2VLForConditionalGeneration

from experiments.miniature import vision
from experiments.miniature.architecture import make_model
from experiments.miniature.curve import draw_curve
from experiments.miniature.episodes import Writer
from experiments.miniature.evaluate import report
from experiments.miniature.export import export
from experiments.miniature.images import Pool, make_pool
from experiments.miniature.lessons import Lesson, make_step, prepare
from experiments.miniature.loop import Schedule, run_stage
from experiments.miniature.vocabulary import SPECIAL, make_tokenizer

ROOT = Path(__file__).resolve().parents[2]
SEED = 0


@dataclass(frozen=True)
class Stage:
    """A stage of training: of the vision tower alone (no lesson), or of the text model."""

    name: str
    schedule: Schedule
    lesson: Lesson | None = None
    seed: int = 0


_FEW_TO_MANY = Lesson(
    ((10, 20), (10, 40), (20, 40), (50, 100), (100, 200), (10, 200)),
    demonstrations=200,
    full=0.4,
    full_limit=60,
    junk=0.3,
    junk_rows=128,
    endings=2,
    train_vision=True,
)

STAGES: tuple[Stage, ...] = (
    Stage("vision", Schedule(800, 2e-3, decay=0.25), seed=1),
    Stage(
        "short",  # one visual token per image, no question: the two hops are found within a minute
        Schedule(70, 1.5e-3, decay=0.01),
        Lesson(((4, 12),), demonstrations=144, duplicates=0.3, reach=2000, side=1),
        seed=2,
    ),
    Stage(
        "wider",
        Schedule(100, 1e-3, warmup=10, decay=0.01),
        Lesson(((4, 16), (8, 32), (10, 40), (20, 60)), demonstrations=200, duplicates=0.2, side=1),
        seed=3,
    ),
    Stage(
        "chat",  # the full text with all 16 visual tokens
        Schedule(200, 1e-3, warmup=10, decay=0.001),
        Lesson(((5, 20), (10, 40), (20, 60), (10, 100), (50, 100), (100, 200)), demonstrations=200),
        seed=4,
    ),
    Stage(
        "long",  # contexts of 200 demonstrations, in which thousands of tokens must be ignored
        Schedule(250, 1e-3, warmup=10, decay=0.3),
        Lesson(
            ((10, 40), (20, 60), (10, 200), (50, 100), (100, 200)),
            demonstrations=200,
            full_limit=60,
            junk=0.3,
            junk_rows=128,
            endings=2,
        ),
        seed=5,
    ),
    Stage(
        "joint",  # the vision tower moves again, few-shot episodes are among the long ones
        Schedule(360, 6e-4, warmup=20, decay=0.7),
        _FEW_TO_MANY,
        seed=6,
    ),
    Stage("polish", Schedule(240, 6e-4, warmup=20, decay=0.9), _FEW_TO_MANY, seed=7),
)


@dataclass(frozen=True)
class Images:
    """How many drawings to learn from."""

    strokes: int = 4000  # stroke classes
    per_character: int = 32
    per_stroke: int = 16
    seed: int = 1


def new_model() -> tuple[Qwen2VLForConditionalGeneration, PreTrainedTokenizerFast]:
    """The untrained model and its tokenizer, the same at every call."""
    tokenizer = make_tokenizer()
    torch.manual_seed(SEED)
    model = make_model(len(tokenizer), {token: int(tokenizer.convert_tokens_to_ids(token)) for token in SPECIAL})
    prepare(model, SEED)
    return model, tokenizer


def _vision_step(
    matcher: vision.Matcher, pool: Pool, device: torch.device, ways: int, _: int, generator: torch.Generator
) -> tuple[Tensor, dict[str, float]]:
    images, classes = vision.batch(pool, ways, 4, generator)
    return matcher.loss(images.to(device), classes.to(device))


def train_stage(
    model: Qwen2VLForConditionalGeneration, writer: Writer, pool: Pool, stage: Stage, work: Path,
    *, ways: int = 128, stop_after: int | None = None,
) -> bool:  # fmt: skip
    """One stage, from the last checkpoint of it if there is one; True when it is finished."""
    run = partial(run_stage, stage.name, schedule=stage.schedule, folder=work, seed=stage.seed, stop_after=stop_after)
    if stage.lesson is None:
        matcher = vision.Matcher(model.model.visual).to(model.device)
        return run(matcher, step_function=partial(_vision_step, matcher, pool, model.device, ways))
    model.model.visual.requires_grad_(stage.lesson.train_vision)
    return run(model, step_function=make_step(model, pool, writer, stage.lesson))


def train(
    work: Path, out: Path, *, stages: Sequence[Stage] = STAGES, images: Images = Images(),
    ways: int = 128, device: str = "cpu", stop_after: int | None = None,
) -> bool:  # fmt: skip
    """All stages; writes the Hugging Face folder `out` after each. True when everything is finished."""
    model, tokenizer = new_model()
    model = model.to(device)
    pool = make_pool(images.strokes, images.per_character, images.per_stroke, images.seed)
    writer = Writer(tokenizer)
    for stage in stages:
        if not train_stage(model, writer, pool, stage, work, ways=ways, stop_after=stop_after):
            return False
        export(model, tokenizer, out)
    return True


def shortened(stages: Sequence[Stage], factor: float) -> tuple[Stage, ...]:
    """The stages with `factor` times their steps (at least one each)."""
    return tuple(
        replace(stage, schedule=replace(stage.schedule, steps=max(1, math.ceil(stage.schedule.steps * factor))))
        for stage in stages
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "emloc" / "assets" / "tiny", help="the model's folder")
    parser.add_argument("--work", type=Path, default=ROOT / "outputs" / "train_tiny", help="checkpoints and curve")
    parser.add_argument("--steps", type=float, default=1.0, help="factor on the steps of every stage (1)")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, npu, mps (cpu)")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads (2)")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    train(arguments.work, arguments.out, stages=shortened(STAGES, arguments.steps), device=arguments.device)
    draw_curve(arguments.work / "curve.csv", arguments.work / "curve.png")
    report(arguments.out, device=arguments.device)


if __name__ == "__main__":
    main()
