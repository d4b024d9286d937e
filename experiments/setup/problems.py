"""One sentence and an exit code for what a user, a disk or a device can do wrong; bugs keep their traceback."""

import errno
import logging
import os
import sys
from collections.abc import Callable, Iterable
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

_LOG = logging.getLogger(__name__)
_FULL = "HYDRA_FULL_ERROR"
_PLACE = (PermissionError, FileExistsError, NotADirectoryError, IsADirectoryError)
_PLACE_CODES = (errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.ENAMETOOLONG)
_LAUNCHERS = {
    "joblib": "hydra-joblib-launcher",
    "submitit_local": "hydra-submitit-launcher",
    "submitit_slurm": "hydra-submitit-launcher",
    "ray": "hydra-ray-launcher",
}
_OUT_OF_MEMORY = ("out of memory", "can't allocate memory")


def exit_code(main: Callable[[], Any]) -> int:
    """Run a command: 0 if it went well, 1 with one sentence on stderr for bad input, 130 if it was interrupted.

    HYDRA_FULL_ERROR=1 shows the traceback of everything.
    """
    if os.environ.get(_FULL) == "1":
        main()
        return 0
    os.environ[_FULL] = "1"  # Hydra lets exceptions pass instead of printing its own report
    try:
        main()
    except KeyboardInterrupt:
        print("Interrupted; the same command goes on where this one stopped.", file=sys.stderr)
        return 130
    except Exception as error:
        sentence = explain(error)
        if sentence is None:
            raise
        print(sentence, file=sys.stderr)
        return 1
    return 0


def attempt(job: Callable[[], Any]) -> Any:
    """Run a job of Hydra's and return what it returns.

    Its failure is told in one sentence; in a sweep it is logged, and the other jobs go on.
    """
    try:
        return job()
    except Exception as error:
        sentence = explain(error)
        if HydraConfig.get().mode == RunMode.MULTIRUN:
            name = os.path.basename(HydraConfig.get().runtime.output_dir)
            _LOG.error("%s failed: %s", name, sentence or error, exc_info=sentence is None)
            raise  # Hydra tells of the first failure once all jobs are done
        if sentence is None:
            raise
        raise SystemExit(sentence) from error  # unlike other exceptions, Hydra passes it on without words of its own


def explain(error: Exception) -> str | None:
    """The sentence for an error that is not a bug of ours; None if it may be one."""
    from emloc.errors import UserError  # takes torch and transformers along, which good runs import where needed

    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, MissingConfigException):
        return _missing(error)
    if isinstance(error, OverrideParseException):
        return f"Expected options such as shots=50 or method=none, but {error.override!r} cannot be read as one."
    if isinstance(error, HydraException | OmegaConfBaseException):
        return _configuration(error)
    if isinstance(error, _PLACE) or getattr(error, "errno", None) in _PLACE_CODES:
        return _place(error)
    if isinstance(error, RuntimeError) and any(words in str(error) for words in _OUT_OF_MEMORY):
        return (
            "The device ran out of memory; choose a smaller batch_size or chunk_size, or fewer visual tokens "
            "per image (dataset.visual_tokens), and run again: answers already given are kept."
        )
    return None


def _missing(error: MissingConfigException) -> str:
    """No file of that name in a group of conf/."""
    group, _, name = (error.missing_cfg_file or "").rpartition("/")
    if group == "hydra/launcher" and name in _LAUNCHERS:
        return f"Expected the launcher {name} to be installed, but it is not; pip install {_LAUNCHERS[name]}"
    return _unknown(group or "the configuration", name, error.options or ())


def _configuration(error: Exception) -> str:
    """An option that does not exist, or an override that cannot be read."""
    cause = error.__cause__
    if isinstance(error, ConfigCompositionException) and isinstance(cause, OmegaConfBaseException):
        node = cause.parent_node
        if isinstance(node, DictConfig) and cause.key is not None:
            return _unknown_option(node, str(cause.key))
    return " ".join(line.strip() for line in str(error).splitlines()[:2])


def _unknown_option(node: DictConfig, key: str) -> str:
    prefix = node._get_full_key(None)
    known = [name for name in map(str, node) if name not in ("hydra", "_target_")]
    return _unknown(f"an option of {prefix}" if prefix else "an option", key, known)


def _unknown(what: str, name: str, known: Iterable[str]) -> str:
    from emloc.errors import nearest

    options = sorted(known)
    return f"Expected {what} to be one of {', '.join(options)}; got '{name}'.{nearest(name, options)}"


def _place(error: Exception) -> str:
    place, reason = getattr(error, "filename", None), getattr(error, "strerror", None)
    return (
        f"Expected a place that can be written, but {place or error}: {reason}; choose one with hydra.run.dir=FOLDER."
    )
