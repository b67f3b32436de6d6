"""Runs an engine's strategies one after another in this very process: for machines that cannot hold Ray.

    python scripts/run_without_ray.py FOLDER [HYDRA OVERRIDES]... -- STRATEGY...

FOLDER gets one result per strategy (requests, events, steps, environment). Prints what happened.
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

from ray_jobs.config import BenchConfig
from ray_jobs.engines import make_backend
from ray_jobs.plan import frozen

CONF = Path(__file__).resolve().parents[1] / "conf"


def compose_job(overrides: list[str]) -> BenchConfig:
    ConfigStore.instance().store(name="bench_schema", node=BenchConfig)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return OmegaConf.to_object(compose("config", overrides=overrides))


async def run(folder: Path, overrides: list[str], strategies: list[str]) -> None:
    jobs = {name: compose_job([*overrides, "engine.python=null", f"strategy={name}"]) for name in strategies}
    engine = next(iter(jobs.values())).engine
    os.environ.update(engine.env)
    trace = frozen(next(iter(jobs.values())))
    with tempfile.TemporaryDirectory() as scratch:
        backend = make_backend(engine, Path(scratch))
        environment = await backend.start()
        print(environment, flush=True)
        try:
            for name, job in jobs.items():
                result = await backend.run(trace, job, name)
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
    asyncio.run(run(Path(arguments[0]), arguments[1:split], arguments[split + 1 :]))


if __name__ == "__main__":
    main(sys.argv[1:])
