"""The oldest and the newest transformers that this works with: `python -m tests.transformers_window [VERSION ...]`.

Each version gets a fresh environment with the packages of constraints.txt, except those whose versions transformers
dictates: the tests of the model families and a default run have to pass there. That takes some minutes and 2 GB of
disk per version; environments are removed again, unless `--keep FOLDER` names a place for them. Without versions:
the oldest that pyproject.toml allows and the newest that there is.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

ROOT = Path(__file__).parents[1]
TESTS = ("tests/emloc/backbones", "tests/emloc/test_backbone.py", "tests/emloc/test_loading.py")
PACKAGES = ("pytest>=8,<10", "av>=17", "accelerate>=1.10")  # what these tests need besides the base dependencies
NEWEST = "newest"
_ITS_OWN = re.compile(r"(transformers|huggingface.hub|tokenizers|safetensors)==", re.IGNORECASE)


def oldest() -> str:
    """The lower bound of transformers in pyproject.toml, with a zero behind it if it has two numbers only."""
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    bound = next(found[1] for text in wanted if (found := re.match(r"transformers>=([\d.]+)", text)))
    return bound if bound.count(".") > 1 else f"{bound}.0"


def requirement(version: str) -> str:
    """What pip is asked for."""
    return "transformers>=5,<6" if version == NEWEST else f"transformers=={version}"


def passes(version: str, folder: Path) -> bool:
    """Build an environment in `folder` and try everything in it; prints what is run and what comes of it."""
    python, pins = folder / "bin" / "python", folder / "constraints.txt"
    folder.mkdir(parents=True)
    pins.write_text(
        "\n".join(line for line in (ROOT / "constraints.txt").read_text().splitlines() if not _ITS_OWN.match(line))
    )
    commands: Sequence[Sequence[str | Path]] = (
        (sys.executable, "-m", "venv", folder),
        (python, "-m", "pip", "install", "-q", "-c", pins, "-e", ROOT, requirement(version), *PACKAGES),
        (
            python,
            "-c",
            "import transformers, torch; print('transformers', transformers.__version__, torch.__version__)",
        ),
        (python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *TESTS),
        (python, ROOT / "run.py", "limit=200", f"hydra.run.dir={folder / 'run'}"),
    )
    return all(_done(command) for command in commands)


def _done(command: Sequence[str | Path]) -> bool:
    print("$", *command, flush=True)
    environment = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    return subprocess.run([str(part) for part in command], cwd=ROOT, env=environment, check=False).returncode == 0


def main() -> int:
    """Try all versions; the exit code is 0 if all pass."""
    parser = argparse.ArgumentParser(prog="python -m tests.transformers_window", description=__doc__)
    parser.add_argument("versions", nargs="*", default=[oldest(), NEWEST])
    parser.add_argument("--keep", type=Path, help="a folder that the environments are left in")
    options = parser.parse_args()
    place = nullcontext(options.keep) if options.keep else tempfile.TemporaryDirectory(prefix="emloc-window-")
    with place as folder:
        results = {version: passes(version, Path(folder).resolve() / version) for version in options.versions}
    for version, passed in results.items():
        print(f"transformers {version}: {'passes' if passed else 'FAILS'}")
    return 0 if all(results.values()) else 1


if __name__ == "__main__":
    raise SystemExit(main())
