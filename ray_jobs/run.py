"""The benchmark's command: `bidkv-bench [overrides]`, a Hydra app.

A sweep (Hydra multirun, also the default) is planned first: every combination is composed,
checked and its trace frozen before anything starts. Then all of it runs, over every engine the
cluster holds (`SweepCallback`).
"""

from __future__ import annotations

import logging
import os
import sys
from dataclasses import replace

import hydra
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from ray_jobs.drive.config import BenchConfig
from ray_jobs.drive.no_effect import refuse_no_effect
from ray_jobs.drive.planning import BASIC_SWEEPER
from ray_jobs.drive.refused import nothing_left
from ray_jobs.drive.search import objective_of
from tracking.cli import CONF, exit_on_bad_input
from tracking.imports import large_imports
from tracking.nearest import refuse_words

INTERRUPTED = 130

ConfigStore.instance().store(name="bench_schema", node=BenchConfig)


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
def main(config: DictConfig) -> BenchConfig | float | list[float] | None:
    """Plans one run of a sweep, or (single run, optimising sweeper) runs it and returns its `objective`."""
    settings = HydraConfig.get()
    with nothing_left(settings.sweep.dir), exit_on_bad_input():
        job: BenchConfig = OmegaConf.to_object(config)
    if settings.mode == RunMode.MULTIRUN and settings.sweeper._target_ == BASIC_SWEEPER:
        return job  # ray_jobs.drive.callback.SweepCallback collects it
    with exit_on_bad_input():
        refuse_no_effect([(job, settings.overrides.task)], optimised=settings.mode == RunMode.MULTIRUN)
    with large_imports():  # Ray: not before there is something to run
        from ray_jobs.drive.launch import run_sweep

    seeds = job.objective_seeds or [job.seed]
    outcome = run_sweep([replace(job, seed=seed) for seed in seeds])
    return objective_of(job.objective, [row.metrics for row in outcome.rows])


def print_sweep(words: list[str]) -> None:
    """With --cfg, after Hydra's own output: what the experiment sweeps, which is no part of a job's configuration."""
    if not any(word in ("-c", "--cfg") or word.startswith("--cfg=") for word in words):
        return
    overrides = [word for word in words if "=" in word and not word.startswith("-")]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("config", overrides, return_hydra_config=True)
    for key, values in (OmegaConf.select(config, "hydra.sweeper.params") or {}).items():
        print(f"# swept: {key}={values}")


def cli() -> None:
    """The command: 0 if all runs have a result, 1 if some have none, 2 on bad input, 130 if interrupted."""
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # what it logs, it raises as well
    trying = sys.argv[1:2] == ["try"]
    if not trying and not any(argument.startswith(("-", "hydra.mode")) for argument in sys.argv[1:]):
        sys.argv.append("--multirun")  # before Hydra has read that from the configuration, it refuses commas
    os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"  # a bar for every small file
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises, and we print one line instead of its several
    try:
        with exit_on_bad_input():
            if trying:
                from ray_jobs import try_policy

                try_policy.cli(sys.argv[2:])
            else:
                refuse_words(sys.argv[1:], CONF)
                main()
                print_sweep(sys.argv[1:])
    except KeyboardInterrupt:
        print("interrupted; the same command goes on where this stopped", file=sys.stderr)
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    cli()
