"""How long attention over a shared memory takes, by kernel: `python -m experiments.benchmark [--device cuda]`."""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from emloc.attention import choose_kernel, plain_kernel
from emloc.loading import resolve_device

QUERIES, KV_HEADS, DIM = 1600, 2, 64
REPEATS = 9


def median_ms(work: Callable[[], object], device: torch.device) -> float:
    """Median wall-clock milliseconds of one call, after one that is not counted."""
    times = []
    for _ in range(REPEATS + 1):
        begin = time.perf_counter()
        work()
        if device.type != "cpu":
            torch.accelerator.synchronize()
        times.append(time.perf_counter() - begin)
    return 1000 * statistics.median(times[1:])


def written_out(q: Tensor, k: Tensor, v: Tensor, scaling: float) -> Tensor:
    """The formula as it stands: the whole attention map is formed."""
    return ((q @ k.transpose(-1, -2)) * scaling).softmax(-1) @ v


def measure(memory: int, device: torch.device, dtype: torch.dtype) -> list[tuple[str, float]]:
    """Kernel names and their times for `memory` keys."""
    q, k, v = (torch.randn(1, KV_HEADS, n, DIM, device=device, dtype=dtype) for n in (QUERIES, memory, memory))
    chosen = choose_kernel(device.type, dtype).kernel
    return [
        ("chosen kernel", median_ms(lambda: chosen(q, k, v, False, 0.125), device)),
        ("plain, in blocks", median_ms(lambda: plain_kernel(q, k, v, False, 0.125), device)),
        ("written out", median_ms(lambda: written_out(q, k, v, 0.125), device)),
    ]


def main() -> None:
    """Print one line per memory size and kernel."""
    parser = argparse.ArgumentParser(prog="python -m experiments.benchmark", description=__doc__)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16", "float16"])
    options = parser.parse_args()
    device, dtype = resolve_device(options.device), getattr(torch, options.dtype)
    print(f"{QUERIES} queries, {KV_HEADS} KV heads of size {DIM}, {device}, {dtype}, median of {REPEATS}")
    for memory in (660, 6600):
        for name, milliseconds in measure(memory, device, dtype):
            print(f"{memory:6d} keys  {name:18s} {milliseconds:8.1f} ms")


if __name__ == "__main__":
    main()
