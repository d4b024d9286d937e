"""What a fresh clone relies on: few dependencies, all pinned, package data declared, one licence."""

import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from importlib.metadata import requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]


def pins() -> dict[str, str]:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and line[0] != "#"]
    return {canonicalize_name(name): version for name, version in (line.split("==") for line in lines)}


def installed_with(requirements: list[str], seen: set[str]) -> Iterator[Requirement]:
    """The requirements and what they require in turn, on this machine."""
    for requirement in map(Requirement, requirements):
        name = canonicalize_name(requirement.name)
        if name in seen or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
            continue
        seen.add(name)
        yield requirement
        yield from installed_with(requires(name) or [], seen)


def test_at_most_ten_base_dependencies() -> None:
    assert len(PROJECT["dependencies"]) <= 10
    assert set(EXTRAS) >= {"wandb", "npu", "video", "metrics", "sweep", "notebooks", "kvpress", "lora", "dev"}


def test_every_installed_requirement_is_pinned() -> None:
    # What CUDA builds of torch bring along is not on every machine: they depend on their own exact versions.
    needed = list(installed_with([*PROJECT["dependencies"], *EXTRAS["dev"]], set()))
    unpinned = [r.name for r in needed if canonicalize_name(r.name) not in pins() and not _of_cuda(r.name)]
    assert not unpinned


def test_pins_are_within_the_declared_versions() -> None:
    for requirement in map(Requirement, [*PROJECT["dependencies"], *EXTRAS["dev"], *EXTRAS["wandb"]]):
        assert requirement.specifier.contains(pins()[canonicalize_name(requirement.name)]), requirement


def test_no_pin_ties_to_one_build_of_torch() -> None:
    assert not [name for name in pins() if _of_cuda(name)]
    assert "+" not in "".join(pins().values())


def test_data_files_are_package_data(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "experiments" / "datasets", tmp_path / "experiments" / "datasets")
    model = tmp_path / "emloc" / "assets" / "tiny" / "model.safetensors"
    model.parent.mkdir(parents=True)
    notebooks = tmp_path / "analysis" / "notebooks"
    shutil.copytree(ROOT / "analysis" / "notebooks", notebooks)
    for path in (*(tmp_path / name / "__init__.py" for name in ("emloc", "experiments", "analysis")), model):
        path.touch()
    for name in ("pyproject.toml", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / PROJECT["readme"]).touch()
    pip = [sys.executable, "-m", "pip", "wheel", "-q", "--no-index", "--no-deps", "--no-build-isolation", "."]
    subprocess.run(pip, cwd=tmp_path, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    files = zipfile.ZipFile(wheel).namelist()
    assert "emloc/assets/tiny/model.safetensors" in files
    assert "experiments/datasets/imagenet100_classes.csv" in files
    assert {"experiments/datasets/bundled/cities.csv", "experiments/datasets/bundled/README.md"} <= set(files)
    assert "experiments/datasets/digits.py" in files
    assert "analysis/notebooks/records/table_main.jsonl" in files
    assert "analysis/notebooks/paper_figures.ipynb" in files


def test_licence_is_apache() -> None:
    text = (ROOT / "LICENSE").read_text()
    assert PROJECT["license"] == "Apache-2.0"
    assert "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
@pytest.mark.parametrize(
    ("python", "message"),
    [("no-such-python", "no-such-python was not found: install Python 3.11"), ("old", "too old, 3.11 or newer")],
)
def test_make_says_which_python_is_needed(tmp_path: Path, python: str, message: str) -> None:
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    old = tmp_path / "old"
    old.write_text(
        f'#!/bin/sh\n[ "$1" = --version ] && echo Python 3.9.2 && exit 0\n'
        f'exec {sys.executable} -c "import sys; sys.version_info = (3, 9); exec(sys.argv[1])" "$2"\n'
    )
    old.chmod(0o755)
    command = ["make", "install", f"PYTHON={old if python == 'old' else python}"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode != 0
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / ".venv").exists()


def _of_cuda(name: str) -> bool:
    return name.startswith(("nvidia-", "cuda-", "triton", "pytorch-triton"))
