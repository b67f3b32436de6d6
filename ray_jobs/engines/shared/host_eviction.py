"""How vLLM is told what its host memory for KV blocks gives up first."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from ray_jobs.engines.config import EngineConfig
from tracking.errors import require

PLACE, NAME = "bidkv.adapters.vllm.memory.host_eviction", "RetentionEviction"


def connector_config(engine: EngineConfig) -> dict[str, Any] | None:
    """vLLM's `kv_connector_extra_config`; None where all is left to vLLM, which is its LRU."""
    key, value = "engine.kv_offload_eviction", engine.kv_offload_eviction
    if value == "lru":
        return None
    if value == "arc":
        return {"eviction_policy": value}
    loads = find_spec("vllm.v1.kv_offload.cpu.policies.factory") is not None
    require(loads, key, value, "lru or arc: this vLLM loads no policies but its own; 0.32 does")
    return {"eviction_policy": NAME, "cache_policy_module_path": PLACE}


def eviction_arguments(engine: EngineConfig) -> dict[str, Any]:
    """Of vLLM's `EngineArgs`. Raises ValueError on a vLLM that loads no policy from outside."""
    extra = connector_config(engine)
    if extra is None:
        return {}
    from vllm.config import KVTransferConfig

    return {"kv_transfer_config": KVTransferConfig(kv_connector_extra_config=extra)}
