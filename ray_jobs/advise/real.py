"""`confirm=real`: stock and the recommendation on the engine itself, as an ordinary sweep."""

from __future__ import annotations

from dataclasses import replace

import ray
from rich.console import Console

from ray_jobs.advise.advise import Advice
from ray_jobs.advise.config import RecommendConfig
from ray_jobs.advise.confirm import Confirmation, by_trace, confirm
from ray_jobs.advise.lab import sized
from ray_jobs.advise.traces import REAL, SEEDS_OF_A_RUN
from ray_jobs.advise.worker import cost
from ray_jobs.drive.cluster import connect
from ray_jobs.drive.config import BenchConfig
from ray_jobs.drive.place import check_fits, cluster_text, suitable_nodes
from ray_jobs.drive.plan import plan_blocks
from ray_jobs.drive.progress import SweepProgress
from ray_jobs.drive.sweep import Sweep
from tracking.store.reader import RunReader, StoredRun


def check_real(config: RecommendConfig) -> None:
    """Raises ValueError, before the search, if this machine or cluster cannot hold the engine."""
    connect(config.cluster)
    try:
        check_fits(config.engine, sum(suitable_nodes(config.engine).values()), cluster_text())
    finally:
        ray.shutdown()


def confirm_real(config: RecommendConfig, advice: Advice, console: Console) -> Confirmation | None:
    """Runs `search.confirm_seeds` pairs through Ray into the store; None if there is nothing to confirm.

    A frozen trace is one pair however many seeds there are: the real engine gets it as it is.
    """
    if advice.chosen is None:
        return None
    with SweepProgress(console, 2 * config.search.confirm_seeds) as progress:
        sweep = Sweep(plan_blocks(real_jobs(config, advice)), progress)
        sweep.prepare()
        outcome = sweep.run()
    kept = RunReader(config.tracking.uri, config.tracking.experiment).sweep(outcome.sweep_id)
    runs = [*kept.runs, *kept.failed]
    for run in runs:
        run.metrics |= cost_of(run, config)
    done = confirm(by_trace(runs), advice.stock.label, [advice.chosen.label], config, 1)
    return done[0] if done else None


def real_jobs(config: RecommendConfig, advice: Advice) -> list[BenchConfig]:
    """Stock and the recommendation on seeds of their own, in the engine as it is."""
    workload = sized(config.workload, config.search.real_requests)
    first = config.seed * SEEDS_OF_A_RUN + REAL
    limits = replace(config.run, timeout_s=config.search.real_timeout_s)
    return [
        BenchConfig(
            advice.space.strategy(candidate), workload, config.engine, limits, seed, cluster=config.cluster,
            tracking=config.tracking, slo=config.slo, experiment="recommend",
        )
        for seed in range(first, first + config.search.confirm_seeds)
        for candidate in (advice.stock, advice.chosen)
    ]  # fmt: skip


def cost_of(run: StoredRun, config: RecommendConfig) -> dict[str, float]:
    """A run's cost, from its records in the store; a CPU counts as one device."""
    return {} if run.failed else cost(run.result, max(1.0, config.engine.num_gpus))
