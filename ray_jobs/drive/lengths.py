"""How many requests a run needs until its mean, and its p99 if asked, are tight (`run.until=precision`), before traces are frozen.

All strategies and seeds of a cell get the same number, or they could not be compared: it is found on stock
vLLM, with twice as many requests each time until the interval of its mean E2E is narrow enough.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from math import nan
from typing import Any

from ray_jobs.drive.config import BenchConfig
from ray_jobs.drive.pilot import Run, Say, engine_facts, find
from ray_jobs.drive.plan import digest, frozen, load_name
from ray_jobs.engines.job import RunConfig
from tracking.metrics.topics.latency import e2e_mean_half_width, e2e_p99_half_width
from tracking.metrics.view import RunView


@dataclass(frozen=True)
class Length:
    """`requests` a run; half-widths of the 95 % intervals of stock's mean and p99 E2E with so many, as shares of
    them (the second NaN if a run is too short for a p99)."""

    requests: int
    half_width: float
    p99_half_width: float = nan

    def suffices(self, limits: RunConfig) -> bool:
        """Whether both are as narrow as was asked for."""
        tail = limits.p99_precision is None or self.p99_half_width <= limits.p99_precision
        return self.half_width <= limits.precision and tail

    def text(self, limits: RunConfig) -> str:
        """ "mean E2E within 4.0%", with the p99 if that was asked for."""
        tail = f", p99 within {self.p99_half_width:.1%}" if limits.p99_precision is not None else ""
        return f"mean E2E within {self.half_width:.1%}{tail.replace('nan%', 'no known width')}"


def resolve_lengths(jobs: Sequence[BenchConfig], say: Say) -> list[BenchConfig]:
    """The jobs with as many requests as their precision takes, at most `workload.num_requests`."""
    open_jobs = [job for job in jobs if job.run.until == "precision"]
    if not open_jobs:
        return list(jobs)
    found = find(
        open_jobs, say, key_of=key_of, read=lambda values: Length(values["requests"], values["half_width"], values.get("p99_half_width", nan)),
        check=lambda job: frozen(sized(job, job.run.min_requests)), search=search,
    )  # fmt: skip
    for job in {key_of(job): job for job in open_jobs}.values():
        length = found[key_of(job)]
        say(
            f"{job.workload.name} {load_name(job)}: {length.requests} of at most {job.workload.num_requests} requests "
            f"give stock's {length.text(job.run)}" + ("" if length.suffices(job.run) else _missed(job.run))
        )
    return [sized(job, found[key_of(job)].requests) if job.run.until == "precision" else job for job in jobs]


def _missed(limits: RunConfig) -> str:
    tail = f" and {limits.p99_precision:.1%}" if limits.p99_precision is not None else ""
    return f", not {limits.precision:.1%}{tail}: the limit comes first"


async def search(job: BenchConfig, run: Run, say: Say) -> Length:
    """Doubles the requests from `run.min_requests` on, until the interval is narrow enough or time or requests end."""
    requests, most = job.run.min_requests, job.workload.num_requests
    while True:
        result = await run(frozen(sized(job, requests)), job.run)
        view = RunView(result)
        length = Length(requests, e2e_mean_half_width(view), e2e_p99_half_width(view))
        say(f"{job.workload.name} {load_name(job)}: {length.text(job.run)} with {requests} requests")
        if length.suffices(job.run) or requests == most or result.status != "finished":
            return length
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
