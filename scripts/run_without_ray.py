"""Runs an engine's strategies or loads one after another in this very process: for machines that cannot hold Ray.

    python scripts/run_without_ray.py FOLDER [HYDRA OVERRIDES]... -- RUN...

A RUN is a strategy, or in quotes a name and overrides of its own ("long workload=long_context run.timeout_s=20");
the engine must be the same in all. FOLDER gets one result per run (requests, events, steps, environment). Prints
what happened.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

from ray_jobs.drive.config import BenchConfig
from ray_jobs.drive.plan import frozen
from ray_jobs.engines import make_backend
from tracking.cli import CONF


def compose_job(overrides: list[str]) -> BenchConfig:
    ConfigStore.instance().store(name="bench_schema", node=BenchConfig)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return OmegaConf.to_object(compose("config", overrides=overrides))


def planned(overrides: list[str], runs: list[str]) -> dict[str, BenchConfig]:
    """The job of each run by its name. Raises ValueError if they need different engines."""
    jobs = {}
    for run in runs:
        name, *own = run.split()
        jobs[name] = compose_job([*overrides, "engine.python=null", *(own or [f"strategy={name}"])])
    first = next(iter(jobs.values())).engine_used
    for name, job in jobs.items():
        if job.engine_used != first:
            raise ValueError(f"{name}: needs another engine than the run before it")
    return jobs


async def run(folder: Path, jobs: dict[str, BenchConfig]) -> None:
    engine = next(iter(jobs.values())).engine_used
    os.environ.update(engine.env)
    with tempfile.TemporaryDirectory() as scratch:
        backend = make_backend(engine, Path(scratch))
        environment = await backend.start()
        print(environment, flush=True)
        try:
            for name, job in jobs.items():
                result = await backend.run(frozen(job), job, name)
                result.environment = environment
                result.save(folder / name)
                table = result.requests[~result.requests["warmup"]]
                victims = [event for event in result.events if event["type"] == "preempt"]
                latency = (table["finish_t"] - table["scheduled_t"]).mean()
                seconds = result.finished_t - result.started_t
                print(
                    f"{name}: {result.status}, {(table['status'] == 'ok').sum()} of {len(table)} ok, "
                    f"{len(victims)} preemptions, E2E mean {latency:.3f} s, {seconds:.1f} s"
                    + (", degraded" if result.degraded else ""),
                    flush=True,
                )
        finally:
            await backend.stop()


def main(arguments: list[str]) -> None:
    if len(arguments) < 3 or "--" not in arguments:
        print(__doc__, file=sys.stderr)
        sys.exit(2)
    split = arguments.index("--")
    asyncio.run(run(Path(arguments[0]), planned(arguments[1:split], arguments[split + 1 :])))


if __name__ == "__main__":
    main(sys.argv[1:])
