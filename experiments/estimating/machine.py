"""The machine a run is made on: what is installed, which devices there are, and how much memory is free."""

import os
import platform
import resource
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, metadata, version
from pathlib import Path

import torch
from packaging.requirements import Requirement

from emloc.attention import choose_kernel
from emloc.loading import resolve_device
from experiments.running.provenance import versions
from experiments.setup.settings import Settings

_MEMINFO, _CGROUP = Path("/proc/meminfo"), Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Machine:
    """What is installed, what there is to run on, and what a run takes of it.

    `free` is bytes on the device, None where that is not known; `extras` see `extras`.
    """

    versions: dict[str, str]
    devices: list[str]
    device: str
    free: int | None
    attention: str
    extras: dict[str, list[str]]

    @classmethod
    def of(cls, settings: Settings) -> "Machine":
        """This machine, as a run with these settings finds it; UserError if their device is not here."""
        device = resolve_device(settings.device)
        usual = "float32" if device.type == "cpu" else "bfloat16"  # as most checkpoints have it
        dtype = getattr(torch, usual if settings.dtype == "auto" else settings.dtype)
        free = available_bytes(device)
        kernel = choose_kernel(device.type, dtype, settings.attn).why
        return cls(versions(), devices(), str(device), free, kernel, extras())


def devices() -> list[str]:
    """Every device of this machine in words, the one that device=auto takes first."""
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    cpu = f"cpu ({platform.machine()}, {torch.get_num_threads()} of {os.cpu_count()} threads)"
    if accelerator is None:
        return [cpu]
    return [*(f"{accelerator.type}:{number}" for number in range(torch.accelerator.device_count())), cpu]


def extras() -> dict[str, list[str]]:
    """What is missing of every extra of this package, as its metadata list them; nothing: the extra is there.

    Empty where the package is not installed, but run from its folder.
    """
    try:
        about = metadata("emloc")
    except PackageNotFoundError:
        return {}
    needed = [Requirement(text) for text in about.get_all("Requires-Dist") or ()]
    return {extra: list(_missing(extra, needed)) for extra in about.get_all("Provides-Extra") or ()}


def _missing(extra: str, needed: list[Requirement]) -> Iterator[str]:
    for wanted in needed:
        if wanted.marker is None or not wanted.marker.evaluate({"extra": extra}):
            continue
        try:
            here = version(wanted.name)
        except PackageNotFoundError:
            yield wanted.name
            continue
        if here not in wanted.specifier:
            yield f"{wanted.name} {wanted.specifier} (here: {here})"


def resident_bytes() -> int:
    """What this process holds in memory now, its libraries included (its peak so far, where only that is known)."""
    if sys.platform == "linux":
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def available_bytes(device: torch.device) -> int | None:
    """How much more memory a process can have on the device; None where that is not known."""
    if device.type == "cpu":
        return int(min(_free_on_host(), _free_in_group()))
    try:
        return torch.accelerator.get_memory_info(device)[0]
    except (RuntimeError, AttributeError, NotImplementedError):
        return None


def _free_on_host() -> int:
    """What Linux can give without swapping; elsewhere all memory of the machine."""
    if _MEMINFO.is_file():
        rows = dict(line.split(":", 1) for line in _MEMINFO.read_text().splitlines())
        return int(rows["MemAvailable"].split()[0]) * 1024
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _free_in_group() -> float:
    """What a container or a batch system leaves this job, as Linux' control groups say; infinite without a limit."""
    try:
        limit, used = ((_CGROUP / f"memory.{name}").read_text().strip() for name in ("max", "current"))
    except OSError:
        return float("inf")
    return float("inf") if limit == "max" else max(0, int(limit) - int(used))
