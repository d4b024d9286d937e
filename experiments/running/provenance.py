"""What a record says about where it comes from: code, versions, memory use."""

import platform
import re
import resource
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

_PACKAGES = ("emloc", "torch", "transformers", "hydra-core", "numpy", "pillow", "av")

# Linux: the peak of this very program. What getrusage says includes that of the process which started it.
_STATUS = Path("/proc/self/status")


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide results."""
    return {"python": platform.python_version(), **{name: _version(name) for name in _PACKAGES}}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def git_state() -> dict[str, Any] | None:
    """Commit of this code and whether tracked files were changed since; None where it is not a git checkout."""
    commit, changes = _git("rev-parse", "HEAD"), _git("status", "--porcelain", "--untracked-files=no")
    return None if commit is None or changes is None else {"commit": commit, "dirty": bool(changes)}


def _git(*arguments: str) -> str | None:
    command = ["git", "-C", str(Path(__file__).parent), *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def peak_memory_bytes(device: torch.device) -> int:
    """Most memory held at once: by this process's tensors on an accelerator, by the whole process on the CPU."""
    if device.type != "cpu":
        try:
            return torch.accelerator.max_memory_allocated(device)
        except RuntimeError:
            pass  # an accelerator that shares the CPU's memory and keeps no count of its own
    status = _STATUS.read_text() if _STATUS.is_file() else ""
    peak = re.search(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)  # some sandboxes have the file, but not this line
    if peak:
        return int(peak[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
