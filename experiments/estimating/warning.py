"""What a run says, before its weights are loaded, if it is going to need more memory than there is."""

import logging

from emloc.errors import UserError
from experiments.estimating.forecast import Forecast, Wanted, forecast
from experiments.estimating.machine import available_bytes, resident_bytes
from experiments.estimating.wording import gigabytes, memory_lines

_SAMPLE = 3  # demonstrations and queries that are tokenised: enough for a first look, and not felt by any run
_LOG = logging.getLogger(__name__)


def looked_at(wanted: Wanted) -> Wanted:
    """The run that is wanted, with what was read of it; if it does not fit, the estimate and what to lower are logged.

    It goes on all the same: an estimate is no proof.
    """
    try:
        opened = wanted.opened(_SAMPLE)
        expected = forecast(opened, process=resident_bytes(), sample=_SAMPLE, read_queries=False)
    except UserError:
        return wanted  # not on this machine, or bad input: the run itself says so where it comes to it
    _warn_if_too_large(expected)
    return opened


def _warn_if_too_large(expected: Forecast) -> None:
    room = available_bytes(expected.device)
    if room is None or expected.memory.beyond <= room:
        return
    _LOG.info("\n".join(memory_lines(expected.memory)))
    _LOG.warning(
        "This run may need %s more memory, but %s are free on %s: lower chunk_size, batch_size or shots, or take a "
        "smaller dtype (dtype=bfloat16).",
        gigabytes(expected.memory.beyond), gigabytes(room), expected.device,
    )  # fmt: skip
