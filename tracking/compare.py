"""`python -m tracking.compare baseline=preempt-evict …`: a sweep's strategies against one, from MLflow."""

from __future__ import annotations

import sys

import hydra
from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from ray_jobs.cli import exit_on_bad_input
from tracking.cli import run_command
from tracking.comparison import Table, compare
from tracking.config import CompareConfig
from tracking.render import rich_tables
from tracking.runs import RunReader, Sweep

NARROWEST = 170  # columns, when the output is not a terminal

ConfigStore.instance().store(name="compare_schema", node=CompareConfig)


def compare_from_store(config: CompareConfig) -> tuple[Sweep, list[Table]]:
    """Reads the sweeps that `config` names and compares their strategies."""
    reader = RunReader(config.tracking.uri, config.tracking.experiment)
    sweep = reader.sweeps(config.sweep)
    rules = config.guardrails.rules
    return sweep, compare(sweep, config.baseline, config.metrics, rules, config.strategies)


@hydra.main(version_base="1.3", config_path="../conf", config_name="compare")
def main(config: DictConfig) -> None:
    """Prints one table for each workload and load."""
    with exit_on_bad_input():  # here too: Hydra would print a line of its own first
        settings: CompareConfig = OmegaConf.to_object(config)
        sweep, tables = compare_from_store(settings)
    console = Console(width=None if sys.stdout.isatty() else NARROWEST)
    for name in sweep.unfinished:
        console.print(f"note: not finished, left out: {name}", style="yellow", markup=False)
    for table in tables:
        console.print(rich_tables(table))


if __name__ == "__main__":
    run_command(main)
