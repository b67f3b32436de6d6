"""The benchmark's command: `python -m ray_jobs.run [overrides]`, a Hydra app.

A sweep (Hydra multirun, also the default) is planned first: every combination is composed,
checked and its trace frozen before anything starts. Then all of it runs, over every engine the
cluster holds (`SweepCallback`).
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from ray_jobs.cli import exit_on_bad_input
from ray_jobs.config import BenchConfig
from ray_jobs.plan import plan_blocks
from ray_jobs.progress import SweepProgress
from ray_jobs.summary import summary_tables
from ray_jobs.sweep import Sweep, SweepOutcome

INTERRUPTED = 130
LOG_WIDTH = 160  # columns of what goes into a file or a pipe
BASIC_SWEEPER = "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"

ConfigStore.instance().store(name="bench_schema", node=BenchConfig)


@hydra.main(version_base="1.3", config_path="../conf", config_name="config")
def main(config: DictConfig) -> BenchConfig | float | None:
    """Plans one run of a sweep, or (single run, optimising sweeper) runs it and returns `objective`."""
    with exit_on_bad_input():
        job: BenchConfig = OmegaConf.to_object(config)
    settings = HydraConfig.get()
    if settings.mode == RunMode.MULTIRUN and settings.sweeper._target_ == BASIC_SWEEPER:
        return job  # ray_jobs.callback.SweepCallback collects it
    with exit_on_bad_input():
        outcome = run_sweep([job])
    return outcome.rows[0].metrics.get(job.objective) if outcome.rows else None


def run_sweep(jobs: Sequence[BenchConfig]) -> SweepOutcome:
    """Plans and runs the jobs as one sweep and prints what came out. Exits with 1 if a run failed."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=LOG_WIDTH)
    blocks = plan_blocks(jobs)
    with SweepProgress(console, sum(map(len, blocks))) as progress:
        outcome = Sweep(blocks, progress).run()
    for table in summary_tables(outcome.rows):
        console.print(table)
    lines = {
        "figure": outcome.figure,
        "compare": f"python -m tracking.compare sweep={outcome.sweep_id[:8]} baseline=preempt-evict",
        "report": f"python -m tracking.report sweep={outcome.sweep_id[:8]} baseline=preempt-evict",
        "browse": f"mlflow ui --backend-store-uri {jobs[0].tracking.uri}",
        "failed": "; ".join(outcome.failed),
    }
    for name, text in lines.items():
        if text:
            console.print(f"{name:<8} {text}", markup=False, highlight=False, soft_wrap=True)
    if outcome.failed:
        sys.exit(1)
    return outcome


def cli() -> None:
    """The command: 0 if all runs have a result, 1 if some have none, 2 on bad input, 130 if interrupted."""
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises, and we print one line instead of its several
    try:
        with exit_on_bad_input():
            main()
    except KeyboardInterrupt:
        print("interrupted; the same command goes on where this stopped", file=sys.stderr)
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    cli()
