"""Sweeps through Hydra's launcher plugins, where they are installed, as a user starts them."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from experiments.records.schema import Record
from tests.support.checkpoints import make_checkpoint
from tests.support.runs import ROOT, image_folder

PLUGINS = {"joblib": "joblib", "submitit_local": "submitit"}


def needs(plugin: str) -> None:
    """Skip the test where the plugin is not installed."""
    if find_spec(f"hydra_plugins.hydra_{plugin}_launcher") is None:
        pytest.skip(f"pip install hydra-{plugin}-launcher")


def start(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`python run.py -m` with options; its jobs find this copy of the code, and run on one thread each."""
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(ROOT / "run.py"), "-m", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize("launcher", PLUGINS)
def test_a_staged_sweep_with_a_failure_is_taken_up_again(launcher: str, tmp_path: Path) -> None:
    """The matched methods come in a later stage; too many shots fail; finished jobs are not done again."""
    needs(PLUGINS[launcher])
    data = image_folder(tmp_path / "data", train=6, val=1)
    command = [
        f"hydra/launcher={launcher}", "+experiment=fig4_layers", "seed=0", "shots=999,12", "delta=0.00001",
        "chunk_size=4", f"model.path={make_checkpoint(tmp_path / 'model', layers=2)}", "device=cpu",
        "dataset=image_folder", f"dataset.root={data}",
    ]  # fmt: skip
    first = start(tmp_path, *command)
    assert first.stdout.splitlines()[-1].startswith("3 done, 3 failed, 0 skipped (finished before): multirun"), first
    assert first.returncode == 1
    assert "shots=999" in first.stderr
    records = [Record.read(path) for path in tmp_path.glob("multirun/*/*/record.json")]
    assert {record.config["method"]["_target_"].split(".")[-2] for record in records if record} == {
        "emloc", "snapkv", "pyramidkv",
    }  # fmt: skip
    again = start(tmp_path, *command)
    assert again.stdout.splitlines()[-1].startswith("0 done, 3 failed, 3 skipped (finished before): multirun"), again


@pytest.mark.parametrize(
    ("launcher", "plugin", "setting", "value"),
    [
        ("slurm_gpu", "submitit", "hydra.launcher.gpus_per_node", 1),
        ("ray_gpu", "ray", "hydra.launcher.ray.remote.num_gpus", 1),
    ],
)
def test_gpus_are_asked_for(launcher: str, plugin: str, setting: str, value: int) -> None:
    needs(plugin)
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        config = compose("config", overrides=[f"hydra/launcher={launcher}"], return_hydra_config=True)
    node = config
    for part in setting.split("."):
        node = node[part]
    assert node == value
