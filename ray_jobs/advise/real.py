"""`confirm=real`: stock and the recommendation on the engine itself, as an ordinary sweep."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from rich.console import Console

from ray_jobs.advise.config import RecommendConfig

if TYPE_CHECKING:
    from ray_jobs.advise.advise import Advice
    from ray_jobs.advise.confirm import Confirmation


def check_real(config: RecommendConfig) -> None:
    """Raises ValueError, before the search, if this machine or cluster cannot hold the engine."""
    if config.confirm != "real":
        return
    import ray

    from ray_jobs.drive.cluster import connect
    from ray_jobs.drive.place import check_fits, cluster_text, suitable_nodes

    connect(config.cluster)
    try:
        check_fits(config.engine, sum(suitable_nodes(config.engine).values()), cluster_text())
    finally:
        ray.shutdown()


def confirm_real(config: RecommendConfig, advice: Advice, console: Console) -> Confirmation | None:
    """Runs `search.confirm_seeds` pairs through Ray into the store; None if there is nothing to confirm."""
    if config.confirm != "real" or advice.chosen is None:
        return None
    from ray_jobs.advise.confirm import by_trace, confirm
    from ray_jobs.advise.lab import sized
    from ray_jobs.advise.traces import REAL, SEEDS_OF_A_RUN
    from ray_jobs.drive.config import BenchConfig
    from ray_jobs.drive.plan import plan_blocks
    from ray_jobs.drive.progress import SweepProgress
    from ray_jobs.drive.sweep import Sweep
    from tracking.store.reader import RunReader

    workload = sized(config.workload, config.search.real_requests)
    first = config.seed * SEEDS_OF_A_RUN + REAL
    limits = replace(config.run, timeout_s=config.search.real_timeout_s)
    jobs = [
        BenchConfig(
            advice.space.strategy(candidate), workload, config.engine, limits, seed, cluster=config.cluster,
            tracking=config.tracking, slo=config.slo, experiment="recommend",
        )
        for seed in range(first, first + config.search.confirm_seeds)
        for candidate in (advice.stock, advice.chosen)
    ]  # fmt: skip
    blocks = plan_blocks(jobs)
    with SweepProgress(console, len(jobs)) as progress:
        sweep = Sweep(blocks, progress)
        sweep.prepare()
        outcome = sweep.run()
    reader = RunReader(config.tracking.uri, config.tracking.experiment)
    kept = reader.sweep(outcome.sweep_id)
    runs = [*kept.runs, *kept.failed]
    for run in runs:
        run.metrics |= _cost(run)
    done = confirm(by_trace(runs), advice.stock.label, [advice.chosen.label], config)
    return done[0] if done else None


def _cost(run) -> dict[str, float]:
    from ray_jobs.advise.worker import cost

    if run.failed:
        return {}
    devices = float(run.params.get("engine.num_gpus") or 0) or 1.0
    return cost(run.result, devices)
