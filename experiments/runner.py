"""A run from its configuration to its record; a finished one is found again at once."""

from contextlib import suppress
from pathlib import Path
from typing import cast

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from experiments.records.files import KEPT, MEMORY, RECORD
from experiments.records.schema import Record, finished_record
from experiments.running.summary import summary
from experiments.setup.checking import check
from experiments.setup.naming import run_name


def run(config: DictConfig) -> Record:
    """Compute the run that `config` describes, or find it finished; prints its table and the path of its record.

    Raises
    ------
    UserError
        For bad input, in one sentence; a folder that holds nothing is removed again.
    """
    hydra = cast(DictConfig, HydraConfig.get())
    folder = Path(hydra.runtime.output_dir)  # Hydra has made it already
    try:
        check(config, hydra)
        record = _finished(config, folder)
        if record is None:
            # Takes seconds to import, as torch does; a finished run needs neither, nor does input that is refused.
            from experiments.running.job import compute

            record = compute(config, hydra, folder)
        else:
            print("This run was finished already; force=true computes it again.\n")
    finally:
        _remove_empty(folder)
    print(summary(record), folder / RECORD, sep="\n\n", flush=True)
    return record


def _remove_empty(folder: Path) -> None:
    if folder.resolve() != Path.cwd():  # the user's own, where a run was sent there
        with suppress(OSError):
            folder.rmdir()


def _finished(config: DictConfig, folder: Path) -> Record | None:
    asked = [name for name, wanted in ((MEMORY, config.save_memory), (KEPT, config.save_kept)) if wanted]
    if config.force or not all((folder / name).is_file() for name in asked):
        return None
    record = finished_record(folder, run_name(config))
    # Held-out figures that are asked for later extend the record: compressed again, but no answer is given again.
    return record if record and record.has_heldout(config.heldout_js, layers=config.heldout_layers) else None
