"""What an engine's configuration may say where SGLang's scheduler decides, for real or simulated."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ray_jobs.engines.said_once import check_said_once
from tracking.errors import require

if TYPE_CHECKING:
    from ray_jobs.engines.config import EngineConfig

STAND_IN = (
    "model_path", "device", "attention_backend", "load_format", "dtype", "disable_overlap_schedule", "watchdog_timeout",
)  # fmt: skip
"""SGLang's arguments that a simulation of it has of its own."""
SIMULATED = (
    "schedule_policy", "schedule_conservativeness", "enable_mixed_chunk", "max_prefill_tokens", "prefill_max_requests",
    "radix_eviction_policy", "radix_eviction_policy_config",
)  # fmt: skip
"""SGLang's arguments that its scheduler, its queue or its radix tree reads, all of which a simulation has."""
NOT_REPEATABLE = (
    "random",
    "routing-key",
)  # orders of the queue that one seed does not settle, or by keys nobody sends
REAL_TIME = ("SGLANG_REQ_WAITING_TIMEOUT", "SGLANG_REQ_RUNNING_TIMEOUT")
"""Variables by which SGLang ends requests, by the machine's clock."""


def check_sglang(engine: EngineConfig) -> None:
    """Raises ValueError if SGLang cannot serve as `engine` says, or if it says a thing twice."""
    if engine.simulated:
        _check_stand_in(engine)
    check_said_once(engine)
    if engine.simulated:
        _check_simulated(engine)
    tokens, page = engine.max_num_batched_tokens, engine.block_size
    require(
        tokens is None or tokens >= page, "engine.max_num_batched_tokens", tokens,
        f"at least engine.block_size={page}: SGLang prefills whole pages, so nobody would be served",
    )  # fmt: skip


def _check_stand_in(engine: EngineConfig) -> None:
    """What stands for the model and its device is not SGLang's to say."""
    shape, tokens = engine.sim.model_shape, engine.max_num_batched_tokens
    require(
        not shape.config, "engine.sim.model_shape", shape.name,
        "one that conf/model_shape declares: what a config.json's model takes is asked of vLLM; engine=vllm_sim has those",
    )  # fmt: skip
    require(
        tokens is not None, "engine.max_num_batched_tokens", tokens,
        "a number with engine.kind=sglang_sim: SGLang itself goes by the memory of the device that it runs on",
    )  # fmt: skip
    for key in STAND_IN:
        require(
            key not in engine.extra, f"engine.extra.{key}", engine.extra.get(key),
            "left out: no model runs in a simulation; engine.sim says what stands for it (model_shape, hardware, async_scheduling)",
        )  # fmt: skip


def _check_simulated(engine: EngineConfig) -> None:
    """What a simulation has not must not look as if it had been tried."""
    for key, value in engine.extra.items():
        require(
            key in SIMULATED, f"engine.extra.{key}", value,
            f"left out: of SGLang's own arguments a simulation of it has {', '.join(SIMULATED)}",
        )  # fmt: skip
    policy = engine.extra.get("schedule_policy")
    require(
        policy not in NOT_REPEATABLE, "engine.extra.schedule_policy", policy,
        f"another one than {' and '.join(NOT_REPEATABLE)}: equal runs would differ, or nothing would",
    )  # fmt: skip
    for name in REAL_TIME:
        require(
            name not in engine.env and name not in engine.pass_env,
            f"engine.env.{name}", engine.env.get(name, f"${name}"),
            "left out: SGLang goes by the machine's clock there, and a simulation has its own; run.request_timeout_s is "
            "how long a client waits",
        )  # fmt: skip
