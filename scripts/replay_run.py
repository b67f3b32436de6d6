"""Gives the simulator what a real vLLM run was given, step by step, and says where its decisions first differ.

    python scripts/replay_run.py FOLDER OVERRIDES...

FOLDER is what `scripts/run_without_ray.py` left of one run (or its downloaded MLflow artifacts), OVERRIDES are the
run's own, `run.log_schedule=true` and `engine.max_num_batched_tokens` among them. The trace is frozen again from
them. Exit code 0 if every decision is the same, 1 if not.
"""

from __future__ import annotations

import logging
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from run_without_ray import compose_job

from bidkv.adapters.shared.settings import AdapterSettings
from ray_jobs.drive.config import BenchConfig
from ray_jobs.drive.plan import frozen
from ray_jobs.engines.config import EngineConfig
from tracking.result import RunResult

TINY = ("model_shape@engine.sim.model_shape=tiny-llama", "hardware@engine.sim.hardware=local-cpu")


def simulated(job: BenchConfig, result: RunResult) -> EngineConfig:
    """The recorded engine, simulated: its memory and scheduler as the run's first record has them."""
    start = next(event for event in result.events if event["type"] == "run_start")
    engine = job.engine_used
    sim = engine.sim or compose_job(["engine=vllm_sim", *TINY]).engine.sim
    return replace(
        engine,
        kind="vllm_sim",
        num_blocks=start["num_blocks"] + 1,  # vLLM keeps one empty
        sim=replace(sim, async_scheduling=start["scheduler"] == "async"),
        extra={key: value for key, value in engine.extra.items() if key != "kv_cache_memory_bytes"},
    )


def recorded_steps(result: RunResult) -> list[dict[str, Any]]:
    """Step records; a Parquet file turns each step's {id: tokens} into a struct of all ids."""
    steps = result.steps.to_dict("records")
    for step in steps:
        step["scheduled"] = {i: int(n) for i, n in step["scheduled"].items() if n is not None and n == n}
    return steps


def main(arguments: list[str]) -> int:
    if not arguments:
        print(__doc__, file=sys.stderr)
        return 2
    logging.getLogger("vllm").setLevel(logging.ERROR)
    job, result = compose_job(arguments[1:]), RunResult.load(Path(arguments[0]))
    from ray_jobs.engines.sim.build import build_parts
    from ray_jobs.engines.sim.replay import replay

    with tempfile.TemporaryDirectory() as scratch:
        parts = build_parts(simulated(job, result), Path(scratch))
        strategy = job.strategy
        settings = AdapterSettings(
            strategy.name, strategy.admission, strategy.victim, dict(strategy.params),
            admission_params=dict(strategy.admission_params), kill_switch=strategy.kill_switch, seed=job.seed,
            events_path=f"{scratch}/events.jsonl", steps_path="memory",
        )  # fmt: skip
        found = replay(parts, frozen(job), result.events, recorded_steps(result), settings)
    moved = sum(len(step.get("kv_started", ())) for step in result.steps.to_dict("records"))
    print(
        f"{found.steps} steps, {found.preemptions} preemptions, {moved} transfers: {found.difference or 'all the same'}"
    )
    return int(found.difference is not None)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
