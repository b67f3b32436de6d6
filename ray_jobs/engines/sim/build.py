"""Builds vLLM's own configuration objects for a model that exists as a shape only."""

from __future__ import annotations

import copy
import gc
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from packaging.version import Version

from ray_jobs.engines.config import EngineConfig, blocks_that_fit, memory_of
from ray_jobs.engines.shared.host_eviction import eviction_arguments
from ray_jobs.engines.sim.kv_layout import KVLayout, LoadedModel, ask_model, lay_out
from ray_jobs.engines.sim.shape import ModelShape
from ray_jobs.engines.sim.unloaded import as_on_a_gpu
from ray_jobs.engines.sim.work import Work, declared_work

OLDEST_VLLM = (0, 26)  # the oldest that `make test-versions` runs the simulator on


@dataclass(frozen=True)
class SchedulerParts:
    """What a scheduler is made of; one set serves any number of runs."""

    vllm_config: Any
    kv_cache_config: Any
    block_size: int
    hash_block_size: int
    block_hasher: Any  # None without prefix caching
    block_bytes: int  # of a block on one device, all layers together
    work: Work  # what a step reads and computes


def build_parts(engine: EngineConfig, folder: Path) -> SchedulerParts:
    """Writes the model's config.json into `folder` and lets vLLM check all settings.

    A shape that is declared has one KV cache group, full attention in every layer, and the blocks that `blocks_that_fit`
    counts. One that is a config.json's has what vLLM makes of that file.
    Raises ValueError on a vLLM that is too old, on a model that does not fit or that vLLM does not know, and
    (pydantic's) on settings that vLLM does not accept.
    """
    import vllm
    from vllm.utils.hashing import get_hash_fn_by_name
    from vllm.v1.core.kv_cache_utils import get_request_block_hasher, init_none_hash

    if Version(vllm.__version__).release < OLDEST_VLLM:
        raise ValueError(f"engine.kind='vllm_sim': needs vLLM 0.26 or newer, this is {vllm.__version__}")
    if engine.sim.model_shape.config:
        config, model = known_model(engine, folder)
        layout, work = read_layout(engine, config, model), model.work
    else:
        config = engine_config(engine, folder)
        layout, work = declared_layout(engine), declared_work(engine.sim.model_shape)
    hasher = None
    if config.cache_config.enable_prefix_caching:
        hash_function = get_hash_fn_by_name(config.cache_config.prefix_caching_hash_algo)
        init_none_hash(hash_function)
        hasher = get_request_block_hasher(layout.hash_block_size, hash_function)
    gc.collect()
    gc.freeze()  # a collection after each run need not look through all that vLLM imported
    return SchedulerParts(
        vllm_config=config,
        kv_cache_config=layout.kv_cache_config,
        block_size=layout.block_size,
        hash_block_size=layout.hash_block_size,
        block_hasher=hasher,
        block_bytes=layout.block_bytes,
        work=work,
    )


def engine_config(engine: EngineConfig, folder: Path) -> Any:
    """vLLM's own configuration.

    vLLM's CPU platform, on which this runs, turns async scheduling off, and with latent attention (MLA) chunked prefill
    and prefix caching, too. The simulated device is a GPU, so what was asked for is put back.
    """
    from vllm.engine.arg_utils import EngineArgs

    sim, shape = engine.sim, engine.sim.model_shape
    with as_on_a_gpu() if shape.config else nullcontext():  # its imports take a second
        config = EngineArgs(
            **model_arguments(shape, folder, engine.max_model_len),
            served_model_name=shape.name,
            block_size=engine.block_size,
            num_gpu_blocks_override=engine.num_blocks,
            max_num_seqs=engine.max_num_seqs,
            max_model_len=engine.max_model_len,
            max_num_batched_tokens=engine.max_num_batched_tokens,
            enable_prefix_caching=engine.prefix_caching,
            seed=engine.seed,
            kv_offloading_size=host_gib(engine),
            disable_log_stats=True,
            **eviction_arguments(engine),
            **engine.extra,
        ).create_engine_config()
    config.scheduler_config.async_scheduling = sim.async_scheduling
    if config.model_config.use_mla:
        config.scheduler_config.enable_chunked_prefill = engine.extra.get("enable_chunked_prefill", True)
        config.scheduler_config.max_num_batched_tokens = (
            engine.max_num_batched_tokens or config.scheduler_config.max_num_batched_tokens
        )
        config.cache_config.enable_prefix_caching = engine.prefix_caching
        config.cache_config.block_size = engine.block_size
    return config


def model_arguments(shape: ModelShape, folder: Path, max_model_len: int) -> dict[str, Any]:
    """What vLLM is told of the model alone. Of one that is declared it sees one device's share."""
    arguments = {
        "model": str(shape.write_config(folder / "model", max_model_len)),
        "skip_tokenizer_init": True,
        "load_format": "dummy",
        "dtype": shape.dtype,
        "enforce_eager": True,
    }
    return arguments | ({"tensor_parallel_size": shape.tensor_parallel} if shape.config else {})


def known_model(engine: EngineConfig, folder: Path) -> tuple[Any, LoadedModel]:
    """The configuration of a model of a config.json, and what vLLM's own classes say of it. Raises ValueError, in one
    line, with vLLM's word if it does not serve that model so."""
    import vllm

    try:
        config = engine_config(engine, folder)
        return config, ask_model(config, folder)
    except (ValueError, NotImplementedError) as error:
        said = " ".join(str(error).partition("[type=")[0].split())
        raise ValueError(
            f"engine.sim.model_shape={engine.sim.model_shape.name!r}: must be a model that vLLM {vllm.__version__} "
            f"serves with these settings; it says: {said}"
        ) from None


def declared_layout(engine: EngineConfig) -> KVLayout:
    """Of a model that `conf/model_shape` declares."""
    shape, size = engine.sim.model_shape, engine.block_size
    blocks = engine.num_blocks or blocks_that_fit(engine)
    return KVLayout(
        kv_cache_config(shape, size, blocks),
        block_size=size,
        hash_block_size=size,
        block_bytes=size * shape.kv_bytes_per_token,
    )


def read_layout(engine: EngineConfig, config: Any, model: LoadedModel) -> KVLayout:
    """Of a model of a config.json, in the memory that its weights leave. Raises ValueError if it does not fit."""
    sim, shape = engine.sim, engine.sim.model_shape
    free = int(memory_of(engine) - model.weight_bytes)
    weights = f"its weights are {model.weight_bytes / 1e9:.1f} GB on each {sim.hardware.name}"
    if free <= 0 and engine.num_blocks is None:
        raise ValueError(
            f"engine.sim.model_shape={shape.name!r}: must be smaller, or on more or larger devices: {weights}, which "
            "leaves no memory for KV (hardware@engine.sim.hardware=, engine.sim.model_shape.tensor_parallel=)"
        )
    try:
        return lay_out(config, model.specs, free)
    except ValueError as error:
        said = " ".join(str(error).partition("Try increasing")[0].split())
        raise ValueError(
            f"engine.max_model_len={engine.max_model_len}: must fit in the memory for KV; {weights}; vLLM says: {said}"
        ) from None


def work_of(shape: ModelShape) -> Work:
    """What a step of the model reads and computes, where there is no engine. Raises what vLLM raises."""
    if not shape.config:
        return declared_work(shape)
    from vllm.engine.arg_utils import EngineArgs

    with TemporaryDirectory() as name:
        folder = Path(name)
        with as_on_a_gpu():
            config = EngineArgs(**model_arguments(shape, folder, 0)).create_engine_config()
        return ask_model(config, folder).work


def host_gib(engine: EngineConfig) -> float | None:
    """Host memory for KV blocks as vLLM is told: of all devices that it sees, one where the shape is declared; None
    where nothing is offloaded."""
    shape = engine.sim.model_shape
    return engine.kv_offload_gib / (1 if shape.config else shape.tensor_parallel) or None


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


def make_request(
    parts: SchedulerParts, request_id: str, prompt: list[int], known: Sequence[bytes] = (), **facts: Any
) -> Any:
    """A vLLM `Request` that generates exactly `max_tokens` tokens.

    `known` are the hashes of its first blocks that need not be computed. `facts`: `max_tokens`, `arrival_time` (s),
    `priority`, and `declared`, what the client tells the adapter.
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
        block_hasher=_going_on(parts.block_hasher, known) if known else parts.block_hasher,
    )


def _going_on(hasher: Callable[[Any], list[bytes]], known: Sequence[bytes]) -> Callable[[Any], list[bytes]]:
    """`hasher`, which vLLM asks for the hashes that a request lacks, behind those that are known."""

    def hashes_of(request: Any) -> list[bytes]:
        if not request.block_hashes:
            request.block_hashes.extend(known)
        return hasher(request)

    return hashes_of
