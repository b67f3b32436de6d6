"""Refuses what was typed for a run or a sweep and would change nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ray_jobs.drive.config import BenchConfig
from ray_jobs.engines.no_effect import idle_job_keys
from ray_jobs.workload.no_effect import idle_workload_keys
from ray_jobs.workload.sources import has_file
from tracking.typed import Idle, idle_ones, refuse_unknown, typed_keys


def idle_keys(job: BenchConfig, optimised: bool = False) -> Iterator[Idle]:
    """Keys that change nothing of this job; `optimised`: an optimising sweeper asks for its objective."""
    yield from idle_workload_keys(job.workload)
    yield from idle_job_keys(job)
    if job.cluster.address is not None:
        yield Idle("cluster.num_cpus", f"the cluster at {job.cluster.address} has its own")
    if job.workload.load_share is None or job.workload.capacity is not None:
        for key in ("precision", "max_runs", "requests", "seed"):
            yield Idle(f"capacity.{key}", "no capacity is looked for: workload.load=95% looks for one")
    if not optimised:
        for key in ("objective", "objective_seeds"):
            yield Idle(key, "it is what an optimising sweeper is told: experiment=search")


def idle_capacity_keys(job: BenchConfig) -> Iterator[Idle]:
    """Keys that change nothing of the capacity of the job's engine: it is that of stock, at any rate."""
    for key in ("load", "loads", "rate", "capacity", "arrivals", "warmup_requests", "warmup_s"):
        yield Idle(f"workload.{key}", "the capacity is the highest rate at which these requests can arrive")
    if not has_file(job.workload.source.kind):
        yield Idle("workload.num_requests", "capacity.requests says how many there are")
    for key in ("strategy", "tracking", "figures", "slo", "objective", "objective_seeds", "repeat"):
        yield Idle(key, "the capacity is that of stock vLLM, and no run is stored")
    yield Idle("seed", "capacity.seed draws the requests")
    for idle in idle_keys(job):
        if not idle.key.startswith("capacity."):
            yield idle


def refuse_no_effect(jobs: Sequence[tuple[BenchConfig, Sequence[str]]], optimised: bool = False) -> None:
    """Raises ValueError for a key of the jobs' overrides that changes nothing in any of them, or is none.

    In a sweep a key may count in one combination only: a file's path for the workload that reads it.
    """
    idle: dict[str, str] = {}
    counts: set[str] = set()
    values = {}
    for job, overrides in jobs:
        typed = typed_keys(overrides)
        refuse_unknown(typed, BenchConfig)
        found = idle_ones(typed, idle_keys(job, optimised))
        idle |= found
        counts |= typed.keys() - found.keys()
        values |= typed
    for key in idle:
        if key not in counts:
            raise ValueError(f"{key}={values[key]}: would change nothing: {idle[key]}")
