"""Builds vLLM's own configuration objects for a model that exists as a shape only."""

from __future__ import annotations

import copy
import gc
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.version import Version

from ray_jobs.engines.config import EngineConfig, blocks_that_fit
from ray_jobs.engines.sim.shape import ModelShape

OLDEST_VLLM = (0, 26)  # the oldest that `make test-versions` runs the simulator on


@dataclass(frozen=True)
class SchedulerParts:
    """What a scheduler is made of; one set serves any number of runs."""

    vllm_config: Any
    kv_cache_config: Any
    block_size: int
    block_hasher: Any  # None without prefix caching


def build_parts(engine: EngineConfig, folder: Path) -> SchedulerParts:
    """Writes the model's config.json into `folder` and lets vLLM check all settings.

    vLLM's CPU platform, on which this runs, turns async scheduling off and sets defaults of its own;
    the simulated device is a GPU, so `engine.sim.async_scheduling` is put back afterwards.
    Raises ValueError on a vLLM that is too old, and (pydantic's) on settings that vLLM does not accept.
    """
    import vllm
    from vllm.engine.arg_utils import EngineArgs
    from vllm.utils.hashing import get_hash_fn_by_name
    from vllm.v1.core.kv_cache_utils import get_request_block_hasher, init_none_hash

    if Version(vllm.__version__).release < OLDEST_VLLM:
        raise ValueError(f"engine.kind='vllm_sim': needs vLLM 0.26 or newer, this is {vllm.__version__}")
    sim = engine.sim
    shape = sim.model_shape
    config = EngineArgs(
        model=str(shape.write_config(folder / "model", engine.max_model_len)),
        served_model_name=shape.name,
        skip_tokenizer_init=True,
        load_format="dummy",
        dtype=shape.dtype,
        block_size=engine.block_size,
        num_gpu_blocks_override=engine.num_blocks,
        max_num_seqs=engine.max_num_seqs,
        max_model_len=engine.max_model_len,
        max_num_batched_tokens=engine.max_num_batched_tokens,
        enable_prefix_caching=engine.prefix_caching,
        seed=engine.seed,
        kv_offloading_size=host_gib(engine),
        disable_log_stats=True,
        enforce_eager=True,
        **engine.extra,
    ).create_engine_config()
    config.scheduler_config.async_scheduling = sim.async_scheduling
    blocks = engine.num_blocks or blocks_that_fit(engine)
    hasher = None
    if config.cache_config.enable_prefix_caching:
        hash_function = get_hash_fn_by_name(config.cache_config.prefix_caching_hash_algo)
        init_none_hash(hash_function)
        hasher = get_request_block_hasher(engine.block_size, hash_function)
    gc.collect()
    gc.freeze()  # a collection after each run need not look through all that vLLM imported
    return SchedulerParts(
        vllm_config=config,
        kv_cache_config=kv_cache_config(shape, engine.block_size, blocks),
        block_size=engine.block_size,
        block_hasher=hasher,
    )


def host_gib(engine: EngineConfig) -> float | None:
    """Host memory of one device's KV cache, since vLLM sees one here; None where nothing is offloaded."""
    return engine.kv_offload_gib / engine.sim.model_shape.tensor_parallel or None


def kv_cache_config(shape: ModelShape, block_size: int, blocks: int) -> Any:
    """A `KVCacheConfig` of one group: full attention in every layer. One block is vLLM's null block."""
    import torch
    from vllm.v1.kv_cache_interface import FullAttentionSpec, KVCacheConfig, KVCacheGroupSpec

    spec = FullAttentionSpec(
        block_size=block_size,
        num_kv_heads=shape.kv_heads_per_device,
        head_size=shape.head_dim,
        dtype=getattr(torch, shape.dtype),
    )
    layers = [f"model.layers.{i}.self_attn.attn" for i in range(shape.layers)]
    return KVCacheConfig(
        num_blocks=blocks, kv_cache_tensors=[], kv_cache_groups=[KVCacheGroupSpec(layers, spec)]
    )


def run_config(parts: SchedulerParts, bidkv: dict[str, Any]) -> Any:
    """A `VllmConfig` for one run: the parts' own, with the adapter's settings. Simulated clients are believed."""
    config = copy.copy(parts.vllm_config)
    config.cache_config = copy.copy(config.cache_config)
    config.cache_config.num_gpu_blocks = parts.kv_cache_config.num_blocks
    config.additional_config = {"bidkv": bidkv | {"client_facts": True}}
    return config


def make_request(parts: SchedulerParts, request_id: str, prompt: list[int], **facts: Any) -> Any:
    """A vLLM `Request` that generates exactly `max_tokens` tokens.

    `facts`: `max_tokens`, `arrival_time` (s), `priority`, and `declared`, what the client tells the adapter.
    """
    from vllm import SamplingParams
    from vllm.v1.request import Request

    params = SamplingParams(
        temperature=0.0,
        max_tokens=facts["max_tokens"],
        ignore_eos=True,
        detokenize=False,
        extra_args={"bidkv": facts["declared"]},
    )
    return Request(
        request_id=request_id,
        prompt_token_ids=prompt,
        sampling_params=params,
        pooling_params=None,
        arrival_time=facts["arrival_time"],
        priority=facts["priority"],
        block_hasher=parts.block_hasher,
    )
