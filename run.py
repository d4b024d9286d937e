"""Run one experiment: `python run.py dataset=digits method=emloc shots=200`; conf/config.yaml has every option."""

import sys

import hydra
from omegaconf import DictConfig

from experiments import runner
from experiments.setup.problems import attempt, exit_code
from experiments.setup.spellings import brought_up_to_date


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(config: DictConfig) -> float:
    """Compute, print and store what the configuration describes; the last line printed is the record's path.

    Returns the score, which sweepers such as Optuna's look for the best of.
    """
    return attempt(lambda: runner.run(config).metric.value)


def command() -> int:
    """The whole command: the options in `sys.argv`, earlier spellings included, to an exit code."""
    sys.argv[1:] = brought_up_to_date(sys.argv[1:])
    return exit_code(main)


if __name__ == "__main__":
    sys.exit(command())
