"""One sentence and an exit code for what a user, a disk or a device can do wrong; bugs keep their traceback."""

import errno
import logging
import os
import sys
import traceback
from collections.abc import Callable
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from emloc.errors import UserError
from experiments.setup.choices import choices
from experiments.setup.spellings import unknown, unknown_option

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
_NO_NPU = "Failed to load the backend extension: torch_npu"  # what `import torch` says beside a torch-npu without CANN
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
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, MissingConfigException):
        return _missing(error)
    if isinstance(error, OverrideParseException):
        return _unreadable(str(error.override))
    if isinstance(error, HydraException | OmegaConfBaseException):
        return _configuration(error)
    if isinstance(error, ValueError) and _origin(error)[0].startswith("hydra."):
        return _arguments(error)
    if _is_about_a_place(error):
        return _place(error)
    if isinstance(error, RuntimeError) and _NO_NPU in str(error):
        return (
            "Expected Ascend's CANN toolkit for torch-npu, but torch cannot load it; source the toolkit's set_env.sh, "
            "or set TORCH_DEVICE_BACKEND_AUTOLOAD=0 to run without the NPU."
        )
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
    return unknown(group or "the configuration", name, error.options or ())


def _unreadable(override: str) -> str:
    return f"Expected options such as shots=50 or method=none, but {override!r} cannot be read as one."


def _configuration(error: Exception) -> str:
    """A sentence of our own from within a resolver, an option that does not exist, or what Hydra says."""
    own = _wrapped(error)
    if own is not None:
        return str(own)
    cause = error.__cause__
    if isinstance(error, ConfigCompositionException) and isinstance(cause, OmegaConfBaseException):
        node, key = cause.parent_node, str(cause.key)
        if isinstance(node, DictConfig) and cause.key is not None and key not in node:
            known = [name for name in map(str, node) if name not in ("hydra", "_target_")]
            return unknown_option(node._get_full_key(None), key, known)
        return f"{error}: {str(cause).partition(chr(10))[0]}."
    return " ".join(line.strip() for line in str(error).splitlines()[:2])


def _wrapped(error: BaseException | None) -> UserError | None:
    """Our own error that OmegaConf made another one of: while it resolves, it turns whatever is raised into its own."""
    while error is not None and not isinstance(error, UserError):
        error = error.__cause__ or error.__context__
    return error


def _arguments(error: ValueError) -> str:
    """A command line that Hydra cannot use, but does not raise an error of its own for."""
    for argument in sys.argv[1:]:
        name, equals, _ = argument.partition("=")
        if equals and not name.strip("+"):
            return _unreadable(argument)
        group = name.lstrip("+")
        if equals and choices(group) and not _names_choices(argument):
            return f"Expected {group} to be one of {', '.join(choices(group))}, but got {argument.partition('=')[2]}."
    return f"Expected arguments that go together, but: {error}."


def _names_choices(argument: str) -> bool:
    """Whether what follows the group is a text, or several: null and numbers are none."""
    override = OverridesParser.create().parse_override(argument)
    values = override.sweep_iterator() if override.is_sweep_override() else [override.value()]
    return all(isinstance(value, str | list) for value in values)


def _is_about_a_place(error: Exception) -> bool:
    # A folder that cannot be made is "not found" on a file system that takes none, such as /proc. Any other file that
    # is not found may be a bug.
    made = isinstance(error, FileNotFoundError) and _origin(error)[1] == "mkdir"
    return made or isinstance(error, _PLACE) or getattr(error, "errno", None) in _PLACE_CODES


def _origin(error: BaseException) -> tuple[str, str]:
    """The module and the function that raised the error; empty if it was never raised."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    return (str(frames[-1].f_globals.get("__name__")), frames[-1].f_code.co_name) if frames else ("", "")


def _place(error: Exception) -> str:
    place, reason = getattr(error, "filename", None), getattr(error, "strerror", None)
    return (
        f"Expected a place that can be written, but {place or error}: {reason}; choose one with hydra.run.dir=FOLDER."
    )
