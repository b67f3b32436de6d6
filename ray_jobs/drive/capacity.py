"""The capacity of an engine under a workload: the highest rate at which stock vLLM's queue stays stable.

Loads that are given as a share of it (`workload.load=95%`) are resolved here, before traces are frozen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from ray_jobs.drive.capacity_search import Bisection, Probe, evenly_mixed, measure, saturated, spread
from ray_jobs.drive.config import BenchConfig, CapacityConfig
from ray_jobs.drive.pilot import Run, Say, engine_facts, find
from ray_jobs.drive.plan import digest, leave_out_path
from ray_jobs.workload.config import ArrivalConfig
from ray_jobs.workload.freeze import freeze_trace
from ray_jobs.workload.source_config import SourceConfig
from ray_jobs.workload.sources import has_file
from ray_jobs.workload.trace import Trace
from tracking.errors import require

REQUESTS_A_SEAT = 6
# The fewest requests in a run and the precision, in a simulation and of a real engine, whose runs take their time.
SIMULATED, REAL = (1500, 0.02), (300, 0.1)
NOT_OF_THE_MIX = (
    "name", "load", "loads", "rate", "capacity", "arrivals", "num_requests", "warmup_requests", "warmup_s",
)  # fmt: skip
"""Keys of a workload that do not change what its requests are, and so not the capacity either."""


@dataclass(frozen=True)
class Capacity:
    """`rate` in req/s; `probes` are the runs that found it, in order; `saturated` is the rate they started from."""

    rate: float
    saturated: float
    probes: tuple[Probe, ...]

    @property
    def runs(self) -> int:
        return len(self.probes) + 1


def resolve_loads(jobs: Sequence[BenchConfig], say: Say) -> list[BenchConfig]:
    """The jobs with a number for every load that is a share of the capacity.

    Raises ValueError where a load cannot be one, and RuntimeError if an engine fails.
    """
    open_jobs = [job for job in jobs if is_open(job)]
    if not open_jobs:
        return list(jobs)
    found = find_capacities(open_jobs, say)
    return [
        replace(job, workload=replace(job.workload, capacity=found[key_of(job)].rate))
        if is_open(job)
        else job
        for job in jobs
    ]


def is_open(job: BenchConfig) -> bool:
    """Whether the job's load is a share of a capacity that is not known yet."""
    return job.workload.load_share is not None and job.workload.capacity is None


def find_capacities(jobs: Sequence[BenchConfig], say: Say) -> dict[str, Capacity]:
    """By `key_of`: from `capacity.folder` where they were found before, else by running."""
    return find(jobs, say, key_of=key_of, read=read, check=probe_trace, search=search)


async def search(job: BenchConfig, run: Run, say: Say) -> Capacity:
    """At most `capacity.max_runs` runs of the workload's requests. Raises ValueError if they do not suffice."""
    limits, trace = limits_of(job), probe_trace(job)
    base = job.run if not job.engine.simulated else replace(job.run, timeout_s=1e7, request_timeout_s=1e7)
    guess, seats = saturated(await run(spread(trace, None, 0), base))
    at_once = min(seats + seats // 2, len(trace.requests) // 3)
    bisection = Bisection(guess, limits.precision)
    say(f"capacity of {job.workload.name}: {guess:.4g} req/s when saturated")
    while (rate := bisection.next_rate()) is not None:
        require(
            len(bisection.probes) + 1 < limits.max_runs, "capacity.max_runs", limits.max_runs,
            f"more: stable at {bisection.stable} req/s, not stable at {bisection.unstable} req/s",
        )  # fmt: skip
        probe_run = spread(trace, rate, at_once)
        end_s = probe_run.requests[-1].arrival_s
        result = await run(probe_run, replace(base, timeout_s=end_s))
        probe = measure(result, rate, end_s)
        bisection.add(probe)
        say(
            f"capacity of {job.workload.name}: {rate:.4g} req/s is {'stable' if probe.stable else 'too much'}, "
            f"the queue grows by {probe.growth:+.1%} of what arrives"
        )
    return Capacity(float(f"{bisection.stable:.4g}"), guess, tuple(bisection.probes))


def limits_of(job: BenchConfig) -> CapacityConfig:
    """The job's own, with numbers for what is left to the kind of engine."""
    fewest, precision = SIMULATED if job.engine.simulated else REAL
    given = job.capacity
    return replace(
        given,
        requests=given.requests or max(fewest, REQUESTS_A_SEAT * job.engine.max_num_seqs),
        precision=given.precision or precision,
    )


def probe_trace(job: BenchConfig) -> Trace:
    """The requests of a capacity run; their arrivals are set anew for each rate."""
    workload, settings = job.workload, limits_of(job)
    count = workload.num_requests if has_file(workload.source.kind) else settings.requests
    requests = replace(
        workload, load="100%", capacity=1.0, num_requests=count, warmup_requests=0, warmup_s=0.0
    )  # fmt: skip
    if workload.source.has_windows:  # one is not like the next, and a capacity is that of them all
        requests = replace(requests, source=replace(workload.source, pick="spread"), arrivals=ArrivalConfig())
    trace = freeze_trace(requests, settings.seed, job.engine.vocab_size, job.engine.max_model_len)
    return trace if has_order(workload.source) else evenly_mixed(trace)


def has_order(source: SourceConfig) -> bool:
    """Whether the requests come in an order of their file, which neighbours and what they share are part of."""
    return has_file(source.kind) and source.pick != "random"


def key_of(job: BenchConfig) -> str:
    """Hash of all that a capacity depends on: the requests, the engine, its version, how it is looked for."""
    workload = asdict(job.workload)
    if job.workload.source.kind != "csv":  # as in those found before there were any
        del workload["source"]["columns"]
    mix = {key: value for key, value in workload.items() if key not in NOT_OF_THE_MIX}
    if has_file(job.workload.source.kind):
        mix["num_requests"] = job.workload.num_requests
    if job.workload.source.has_windows:
        mix["source"] = {**mix["source"], "pick": "spread"}
    if has_file(job.workload.source.kind) and not has_order(job.workload.source):
        mix["order"] = "mixed"  # those found before it was have another key
    search = {key: value for key, value in asdict(limits_of(job)).items() if key != "folder"}
    engine, version, machine = engine_facts(job)
    leave_out_path(engine)
    return digest([mix, engine, version, search, machine])


def read(values: dict[str, Any]) -> Capacity:
    """A capacity out of its file."""
    return Capacity(values["rate"], values["saturated"], tuple(Probe(**probe) for probe in values["probes"]))
