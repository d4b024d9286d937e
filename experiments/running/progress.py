"""Progress of long steps: a bar where there is a terminal, a line of log every tenth where there is none."""

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm

Report = Callable[[int, int], None]  # (steps done, steps in all)
_PAUSE = 1.0  # seconds between lines, so that a short step does not fill the log
_LOG = logging.getLogger(__name__)


@contextmanager
def progress(label: str, *, unit: str, done: int = 0) -> Iterator[Report]:
    """Report progress within the block, before which `done` steps are done already.

    The log of a batch job gets at most ten lines instead of a bar.
    """
    if not sys.stderr.isatty():
        yield _lines(label, unit)
        return
    with tqdm(desc=label, initial=done, unit=f" {unit}", dynamic_ncols=True) as bar:
        yield lambda done, total: _advance(bar, done, total)


def _advance(bar: "tqdm[None]", done: int, total: int) -> None:
    bar.total = total
    bar.update(done - bar.n)


def _lines(label: str, unit: str) -> Report:
    reported, earliest = 0, 0.0

    def report(done: int, total: int) -> None:
        nonlocal reported, earliest
        tenth = 10 * done // total
        if tenth > reported and (time.monotonic() >= earliest or done == total):
            reported, earliest = tenth, time.monotonic() + _PAUSE
            _LOG.info("%s: %d of %d %s", label, done, total, unit)

    return report
