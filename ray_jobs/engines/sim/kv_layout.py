"""The KV cache of a model as vLLM lays it out: groups, block sizes, and how many blocks fit.

Nothing of it is worked out here. vLLM's own model is built without its weights, its layers are asked what they keep,
and vLLM's functions make groups and blocks of that, in the order in which its engine core does.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray_jobs.engines.sim.model_work import model_work, parameter_bytes
from ray_jobs.engines.sim.unloaded import unloaded_model
from ray_jobs.engines.sim.work import Work

MEMORY_LAYOUT = "LBNHC"  # a layer's blocks lie together: what vLLM's GPU backends for these models prefer


@dataclass(frozen=True)
class LoadedModel:
    """What a model takes on one of its devices, and what its layers keep of a request."""

    weight_bytes: int
    work: Work
    specs: dict[str, Any]  # vLLM's KVCacheSpec, by layer


@dataclass(frozen=True)
class KVLayout:
    """What vLLM's scheduler is made of; sizes in tokens."""

    kv_cache_config: Any
    block_size: int  # of its scheduler: what all groups' blocks divide
    hash_block_size: int  # by which prefixes are found
    block_bytes: int  # of a block of the pool, on one device


def ask_model(config: Any, folder: Path) -> LoadedModel:
    """Builds the model of a `VllmConfig`, whose block sizes become those of this model, as when a worker loads it.

    Raises what vLLM raises on a model that it cannot build.
    """
    from vllm.config import get_layers_from_vllm_config
    from vllm.model_executor.layers.attention_layer_base import AttentionLayerBase
    from vllm.platforms import current_platform

    with unloaded_model(config, folder) as model:
        current_platform.update_block_size_for_backend(config)
        layers = get_layers_from_vllm_config(config, AttentionLayerBase)
        kept = {name: layer.get_kv_cache_spec(config) for name, layer in layers.items()}
        specs = {name: spec for name, spec in kept.items() if spec is not None}
        return LoadedModel(parameter_bytes(model), model_work(model, config, layers, specs), specs)


def lay_out(config: Any, specs: dict[str, Any], memory: int) -> KVLayout:
    """As many blocks as `memory` bytes of a device hold, or as `num_gpu_blocks_override` says.

    Raises ValueError, in vLLM's words, if a request of `max_model_len` does not fit.
    """
    from vllm.v1.core import kv_cache_utils

    cache = config.cache_config
    if hasattr(cache, "kv_cache_layout"):  # 0.26 has none
        cache.kv_cache_layout = cache.kv_cache_layout or MEMORY_LAYOUT
    configs = kv_cache_utils.get_kv_cache_configs(config, [specs], [memory])
    kv = kv_cache_utils.generate_scheduler_kv_cache_config(configs)
    cache.num_gpu_blocks = kv.num_blocks
    groups = [group.kv_cache_spec for group in kv.kv_cache_groups]
    cacheable = [spec for spec in groups if getattr(spec, "prefix_cacheable", True)] or groups
    cache.block_size = min(spec.block_size for spec in cacheable)
    config.validate_block_size()
    block_size, hash_block_size = kv_cache_utils.resolve_kv_cache_block_sizes(kv, config)
    if hasattr(kv_cache_utils, "resolve_cache_hit_alignment_tokens"):  # 0.26 has none
        kv.hash_block_size = hash_block_size
        kv.cache_hit_alignment_tokens = kv_cache_utils.resolve_cache_hit_alignment_tokens(
            kv, config, block_size, hash_block_size
        )
    return KVLayout(kv, block_size, hash_block_size, bytes_of_block(config, configs[0].kv_cache_groups))


def bytes_of_block(config: Any, groups: list[Any]) -> int:
    """Bytes that one block of the pool takes: as vLLM divides its memory by."""
    from vllm.v1.core import kv_cache_utils

    return kv_cache_utils._pool_bytes_per_block(config, groups)
