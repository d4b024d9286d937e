"""Runs for tests: in this process, as `python run.py` does them, on small data and random weights."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict
from PIL import Image

from experiments import runner
from experiments.records.schema import Record

ROOT = Path(__file__).parents[2]
MEASURED = {"seconds", "queries_per_second", "peak_memory_bytes"}  # differ from run to run, and nothing else does


def composed(*overrides: str) -> DictConfig:
    """The configuration of `python run.py *overrides`, Hydra's part included."""
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return compose("config", overrides=list(overrides), return_hydra_config=True)


def execute(*overrides: str) -> Record:
    """Do the run, as Hydra would have it done, in this process."""
    config = composed(*overrides)
    folder = Path(OmegaConf.select(config, "hydra.run.dir")).absolute()
    with open_dict(config):
        config.hydra.runtime.output_dir = str(folder)
        HydraConfig.instance().set_config(config)
        del config["hydra"]
    folder.mkdir(parents=True, exist_ok=True)
    return runner.run(config)


def comparable(record: Record) -> dict[str, Any]:
    """What two runs of one configuration have in common."""
    return {key: value for key, value in asdict(record).items() if key not in MEASURED}


def write_image(path: Path, seed: int) -> None:
    """Noise of 16 x 16 pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def image_folder(root: Path, classes: tuple[str, ...] = ("cat", "dog"), *, train: int = 3, val: int = 6) -> Path:
    """The layout of dataset=image_folder."""
    for number, name in enumerate(classes):
        for split, count in (("train", train), ("val", val)):
            for image in range(count):
                write_image(root / split / name / f"{image}.png", 100 * number + image + 1000 * (split == "val"))
    return root


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (path / "predictions.jsonl").read_text().splitlines()]
