"""What a run will need, before anything is loaded: `python -m experiments.doctor [option=value ...] [--json]`.

Takes the options of run.py and refuses what run.py refuses. `--json` prints one JSON object instead of lines.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, open_dict

from emloc.errors import UserError
from experiments.setup.checking import check
from experiments.setup.choices import CONF
from experiments.setup.naming import run_name
from experiments.setup.problems import exit_code
from experiments.setup.settings import Settings
from experiments.setup.spellings import brought_up_to_date

if TYPE_CHECKING:
    from experiments.estimating.forecast import Forecast

_JSON = "--json"
_SAMPLE = 20  # demonstrations, and queries, that are tokenised


def main() -> None:
    """Look at the run that the command line describes, and print what was found."""
    as_json = _JSON in sys.argv[1:]
    config, hydra = composed([text for text in sys.argv[1:] if text != _JSON])
    check(config, hydra)
    # Takes seconds to import, as torch does; input that is refused needs neither.
    from experiments.estimating.machine import Machine
    from experiments.estimating.wording import as_plain, forecast_lines, machine_lines

    machine = Machine.of(Settings.of(config))
    if not as_json:
        print("this machine", *machine_lines(machine), "", sep="\n", flush=True)
    found, unknown = forecast_of(config, Path(hydra.run.dir).parent)
    if as_json:
        print(json.dumps(as_plain(run_name(config), machine, found, unknown), indent=2))
    else:
        print(f"estimate for {run_name(config)}", *(forecast_lines(found) if found else [f"  {unknown}"]), sep="\n")


def forecast_of(config: DictConfig, place: Path) -> "tuple[Forecast | None, str | None]":
    """What the run will need, or in one sentence why that cannot be told; `place` is where the runs beside it are.

    Raises
    ------
    UserError
        For input that a run refuses, too.
    """
    # All that a run imports, so that this process holds what a run's process does.
    from emloc.loading import NotAtHandError
    from experiments.estimating.forecast import forecast
    from experiments.estimating.machine import resident_bytes
    from experiments.running.job import wanted

    try:
        found = forecast(wanted(config, place), process=0, sample=_SAMPLE)
    except NotAtHandError as error:
        return None, f"Memory and layer forwards cannot be told: {error}"
    on_cpu = found.device.type == "cpu"
    return replace(found, memory=replace(found.memory, process=resident_bytes() if on_cpu else 0)), None


def composed(overrides: Sequence[str]) -> tuple[DictConfig, DictConfig]:
    """The configuration of `run.py` with these overrides, and Hydra's own part of it.

    Raises
    ------
    UserError
        For a flag: those of run.py are for doing runs.
    """
    for text in overrides:
        if text.startswith("-"):
            raise UserError(f"Expected options of one run, such as shots=50, or {_JSON}, but got {text}; leave it out.")
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("config", overrides=brought_up_to_date(overrides), return_hydra_config=True)
    HydraConfig.instance().set_config(config)
    hydra = config.hydra
    with open_dict(config):
        del config["hydra"]
    return config, hydra


if __name__ == "__main__":
    sys.exit(exit_code(main))
