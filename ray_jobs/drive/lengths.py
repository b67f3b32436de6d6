"""How many requests a run needs until its mean is tight (`run.until=precision`), before traces are frozen.

All strategies and seeds of a cell get the same number, or they could not be compared: it is found on stock
vLLM, with twice as many requests each time until the interval of its mean E2E is narrow enough.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from ray_jobs.drive.config import BenchConfig
from ray_jobs.drive.pilot import Run, Say, engine_facts, find
from ray_jobs.drive.plan import digest, frozen, load_name
from tracking.metrics.topics.latency import e2e_mean_half_width
from tracking.metrics.view import RunView


@dataclass(frozen=True)
class Length:
    """`requests` a run; `half_width` of the 95 % interval of stock's mean E2E with so many, as a share of the mean."""

    requests: int
    half_width: float


def resolve_lengths(jobs: Sequence[BenchConfig], say: Say) -> list[BenchConfig]:
    """The jobs with as many requests as their precision takes, at most `workload.num_requests`."""
    open_jobs = [job for job in jobs if job.run.until == "precision"]
    if not open_jobs:
        return list(jobs)
    found = find(
        open_jobs, say, key_of=key_of, read=lambda values: Length(values["requests"], values["half_width"]),
        check=lambda job: frozen(sized(job, job.run.min_requests)), search=search,
    )  # fmt: skip
    for job in {key_of(job): job for job in open_jobs}.values():
        length, wanted = found[key_of(job)], job.run.precision
        say(
            f"{job.workload.name} {load_name(job)}: {length.requests} of at most {job.workload.num_requests} requests "
            f"give stock's mean E2E within {length.half_width:.1%}"
            + ("" if length.half_width <= wanted else f", not {wanted:.1%}: the limit comes first")
        )
    return [sized(job, found[key_of(job)].requests) if job.run.until == "precision" else job for job in jobs]


async def search(job: BenchConfig, run: Run, say: Say) -> Length:
    """Doubles the requests from `run.min_requests` on, until the interval is narrow enough or time or requests end."""
    requests, most = job.run.min_requests, job.workload.num_requests
    while True:
        result = await run(frozen(sized(job, requests)), job.run)
        half_width = e2e_mean_half_width(RunView(result))
        say(
            f"{job.workload.name} {load_name(job)}: mean E2E within {half_width:.1%} with {requests} requests"
        )
        if half_width <= job.run.precision or requests == most or result.status != "finished":
            return Length(requests, half_width)
        requests = min(2 * requests, most)


def sized(job: BenchConfig, requests: int) -> BenchConfig:
    """The job with so many requests, as if they had been given."""
    return replace(
        job, workload=replace(job.workload, num_requests=requests), run=replace(job.run, until="requests")
    )


def key_of(job: BenchConfig) -> str:
    """Hash of all that the length of a cell depends on; its seeds have the same."""
    engine: tuple[Any, ...] = engine_facts(job)
    return digest(["length", asdict(job.workload), *engine, asdict(job.run)])
