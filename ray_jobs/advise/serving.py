"""The command that serves a model as recommended, in vLLM's own flags and bidkv's."""

from __future__ import annotations

import json
import re
import shlex

from bidkv import create_default_registry
from bidkv.retention.lru import Lru
from ray_jobs.engines.config import EngineConfig
from ray_jobs.engines.job import StrategyConfig
from ray_jobs.engines.shared.host_eviction import connector_config

SERVER = ("python", "-m", "bidkv.adapters.vllm.serve")
ORIGIN = re.compile(r"config\.json of (/.+|[\w.-]+/[\w.-]+)")


def serving_command(engine: EngineConfig, strategy: StrategyConfig, model: str | None) -> str:
    """One line for a shell. `engine` has the strategy's settings already.

    Stock is plain `vllm serve`. Any other strategy goes through `bidkv.adapters.vllm.serve`, which adds
    the scheduler.
    """
    name = model or model_name(engine)
    flags = engine_flags(engine)
    if strategy.kill_switch:
        return shlex.join(["vllm", "serve", name, *flags])
    own = strategy_flags(strategy)
    return shlex.join([*SERVER, "--strategy", strategy.name, *own, "--model", name, *flags])


def model_name(engine: EngineConfig) -> str:
    """What `vllm serve` is given: a shape's origin where it names one, else `engine.model`."""
    origin = ORIGIN.match(engine.sim.model_shape.source) if engine.sim else None
    simulated = engine.kind == "vllm_sim" or engine.model == "from-shape"
    return origin[1].rstrip(".") if origin and simulated else engine.model


def strategy_flags(strategy: StrategyConfig) -> list[str]:
    """What differs from the strategy that the name stands for."""
    registry = create_default_registry()
    flags: list[str] = []
    named = registry.get(strategy.name) if strategy.name in registry.list_strategies() else None
    if named is None or strategy.admission != named.admission.name:
        flags += ["--bidkv-admission", strategy.admission]
    if named is None or strategy.victim != named.victim.name:
        flags += ["--bidkv-victim", strategy.victim]
    if strategy.retention != (Lru.name if named is None else named.retention.name):
        flags += ["--bidkv-retention", strategy.retention]
    if strategy.params:
        flags += ["--bidkv-params", json.dumps(dict(strategy.params))]
    if strategy.admission_params:
        flags += ["--bidkv-admission-params", json.dumps(dict(strategy.admission_params))]
    if strategy.retention_params:
        flags += ["--bidkv-retention-params", json.dumps(dict(strategy.retention_params))]
    return flags


def engine_flags(engine: EngineConfig) -> list[str]:
    """Of `vllm serve`; what is left to vLLM is left out."""
    shape = engine.sim.model_shape if engine.sim else None
    devices = shape.tensor_parallel if engine.kind == "vllm_sim" else engine.tensor_parallel_size
    values = {
        "--max-model-len": engine.max_model_len,
        "--max-num-seqs": engine.max_num_seqs,
        "--max-num-batched-tokens": engine.max_num_batched_tokens,
        "--watermark": engine.extra.get("watermark") or None,
        "--gpu-memory-utilization": engine.gpu_memory_utilization,
        "--tensor-parallel-size": devices if devices > 1 else None,
        "--num-gpu-blocks-override": engine.num_blocks,
        "--kv-offloading-size": engine.kv_offload_gib or None,
        "--kv-transfer-config": _evicting(engine),
    }
    flags = [text for flag, value in values.items() if value is not None for text in (flag, str(value))]
    return [*flags, "--enable-prefix-caching" if engine.prefix_caching else "--no-enable-prefix-caching"]


def _evicting(engine: EngineConfig) -> str | None:
    extra = connector_config(engine)
    return None if extra is None else json.dumps({"kv_connector_extra_config": extra})
