"""A load that is a share of the capacity, as a number."""

from __future__ import annotations

from functools import partial

from rich.console import Console

from ray_jobs.advise.config import RecommendConfig
from ray_jobs.advise.lab import simulated
from ray_jobs.drive.capacity import resolve_loads
from ray_jobs.drive.config import BenchConfig
from ray_jobs.workload.config import WorkloadConfig


def with_rate(config: RecommendConfig, console: Console) -> WorkloadConfig:
    """Looking for a capacity takes minutes, which are not of the budget; it is kept in `capacity.folder`."""
    job = BenchConfig(
        config.strategy, config.workload, simulated(config.engine, config.engine.sim.wall_timeout_s),
        config.run, cluster=config.cluster, capacity=config.capacity,
    )  # fmt: skip
    (found,) = resolve_loads([job], partial(console.print, markup=False, highlight=False, soft_wrap=True))
    return found.workload
