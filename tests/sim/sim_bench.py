"""What the simulator's tests share: configurations of one tiny model, traces, and a run."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

import ray_jobs.run  # noqa: F401 (registers the configuration's schema)
from bidkv.adapters.shared.settings import AdapterSettings
from ray_jobs.drive.config import BenchConfig
from ray_jobs.engines.sim.build import SchedulerParts, build_parts, kv_cache_config
from ray_jobs.engines.sim.config import SimConfig
from ray_jobs.engines.sim.outcome import Outcome
from ray_jobs.engines.sim.simulate import simulate
from ray_jobs.workload.freeze import freeze_trace
from ray_jobs.workload.trace import Trace, TraceRequest

CONF = Path(__file__).resolve().parents[2] / "conf"
BLOCK = 16
MAX_LEN = 512


def compose_job(*overrides: str) -> BenchConfig:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return OmegaConf.to_object(compose("config", ["engine=vllm_sim", *overrides]))


def crowded_engine(folder: Path) -> tuple[SchedulerParts, SimConfig]:
    """One of a fleet, with memory for a few requests, whose every step is checked."""
    engine = compose_job(
        "model_shape@engine.sim.model_shape=tiny-llama", "hardware@engine.sim.hardware=local-cpu",
        "engine.max_model_len=512", "engine.num_blocks=40", "engine.block_size=16", "engine.max_num_seqs=12",
        "engine.max_num_batched_tokens=256",
    ).engine  # fmt: skip
    return build_parts(engine, folder), replace(engine.sim, check=True)


def variant(
    parts: SchedulerParts,
    *,
    blocks: int,
    seqs: int = 16,
    caching: bool = True,
    overlap: bool = True,
    batched_tokens: int = 256,
    host_blocks: int = 0,
    **scheduler_settings: Any,
) -> SchedulerParts:
    """The same parts with other limits; spares building a VllmConfig for each example."""
    from vllm.config import KVTransferConfig

    config = copy.copy(parts.vllm_config)
    config.scheduler_config = copy.copy(config.scheduler_config)
    config.cache_config = copy.copy(config.cache_config)
    settings = {
        "max_num_seqs": seqs, "async_scheduling": overlap, "max_num_batched_tokens": batched_tokens,
    }  # fmt: skip
    for key, value in (settings | scheduler_settings).items():
        assert hasattr(config.scheduler_config, key), key
        setattr(config.scheduler_config, key, value)
    config.cache_config.enable_prefix_caching = caching
    shape = compose_shape()
    if host_blocks:
        config.kv_transfer_config = KVTransferConfig(
            kv_connector="OffloadingConnector",
            kv_role="kv_both",
            kv_connector_extra_config={"cpu_bytes_to_use": host_blocks * BLOCK * shape.kv_bytes_per_token},
        )
    return replace(
        parts,
        vllm_config=config,
        kv_cache_config=kv_cache_config(shape, BLOCK, blocks),
        block_hasher=parts.block_hasher if caching else None,
    )


def compose_shape() -> Any:
    return _TINY.engine.sim.model_shape


def tiny_hardware() -> Any:
    return _TINY.engine.sim.hardware


def tiny_job() -> BenchConfig:
    """A tiny Llama on a simulated CPU; its step times come from a guess."""
    return compose_job(
        "model_shape@engine.sim.model_shape=tiny-llama",
        "hardware@engine.sim.hardware=local-cpu",
        f"engine.max_model_len={MAX_LEN}",
        "engine.num_blocks=64",
        "engine.max_num_batched_tokens=512",
    )


_TINY = tiny_job()


def random_trace(
    seed: int,
    count: int,
    *,
    rate: float = 500.0,
    prompt: tuple[int, int] = (8, 120),
    output: tuple[int, int] = (1, 90),
    shared: int = 0,
    users: int | None = None,
) -> Trace:
    """Random lengths; every second request starts with the same `shared` tokens. `rate` in req/s."""
    draw = np.random.default_rng(seed)
    arrivals = np.zeros(count) if users else np.cumsum(draw.exponential(1 / rate, count))
    common = draw.integers(3, 2000, shared)
    requests = []
    for i in range(count):
        tokens = draw.integers(3, 2000, draw.integers(*prompt, endpoint=True))
        length = int(draw.integers(*output, endpoint=True))
        requests.append(
            TraceRequest(
                f"r{i:04}",
                float(arrivals[i]),
                np.concatenate([common, tokens]) if i % 2 else tokens,
                length,
                length + int(draw.integers(0, 60)),
                priority=int(draw.integers(0, 3)),
                deadline_s=float(draw.uniform(0.5, 5)),
            )
        )
    return Trace("random", seed, tuple(requests), closed_loop_users=users)


def talk(count: int) -> Trace:
    """`count` sessions with sub-agents and next to no think time, so that many turns run at once."""
    job = compose_job(
        "workload=sessions_small", "workload.num_requests=null", f"workload.sessions.count={count}", "workload.rate=40",
        "workload.sessions.max_think_s=0.05",
    )  # fmt: skip
    return freeze_trace(job.workload, 0, 2048, MAX_LEN)


def run(
    parts: SchedulerParts,
    trace: Trace,
    folder: Path,
    *,
    strategy: str = "preempt-evict",
    retention: str | None = None,
    name: str = "run",
    seed: int = 0,
    log_schedule: bool = False,
    request_timeout_s: float = 1e9,
    run_timeout_s: float = 1e9,
    **sim: Any,
) -> Outcome:
    events = folder / f"{name}.jsonl"
    events.unlink(missing_ok=True)
    settings = AdapterSettings(
        strategy=strategy,
        retention=retention,
        seed=seed,
        run_id="test",
        events_path=str(events),
        steps_path="memory",
        log_schedule=log_schedule,
    )
    config: SimConfig = replace(_TINY.engine.sim, **sim)
    return simulate(parts, config, trace, settings, request_timeout_s, run_timeout_s)


def preemptions(outcome: Outcome) -> list[dict[str, Any]]:
    return [event for event in outcome.events if event["type"] == "preempt"]


def recorded_steps(result: Any) -> list[dict[str, Any]]:
    """Step records; a Parquet file turns each step's {id: tokens} into a struct of all ids."""
    steps = result.steps.to_dict("records")
    for step in steps:
        step["scheduled"] = {i: int(n) for i, n in step["scheduled"].items() if n is not None and n == n}
    return steps
