"""An engine's own arguments that are keys of `engine`: what a run is recorded with is what it ran with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracking.errors import require

if TYPE_CHECKING:
    from ray_jobs.engines.config import EngineConfig

OF_SGLANG = {
    "model_path": "model",
    "load_format": "load_format",
    "dtype": "dtype",
    "page_size": "block_size",
    "max_total_tokens": "num_blocks",
    "max_running_requests": "max_num_seqs",
    "context_length": "max_model_len",
    "chunked_prefill_size": "max_num_batched_tokens",
    "disable_radix_cache": "prefix_caching",
    "mem_fraction_static": "gpu_memory_utilization",
    "tp_size": "tensor_parallel_size",
    "random_seed": "seed",
    "disable_cuda_graph": "enforce_eager",
}
"""SGLang's names, and which key of `engine` each is."""
OF_VLLM = {
    "model": "model",
    "load_format": "load_format",
    "dtype": "dtype",
    "block_size": "block_size",
    "num_gpu_blocks_override": "num_blocks",
    "max_num_seqs": "max_num_seqs",
    "max_model_len": "max_model_len",
    "max_num_batched_tokens": "max_num_batched_tokens",
    "enable_prefix_caching": "prefix_caching",
    "gpu_memory_utilization": "gpu_memory_utilization",
    "tensor_parallel_size": "tensor_parallel_size",
    "enforce_eager": "enforce_eager",
    "seed": "seed",
    "kv_offloading_size": "kv_offload_gib",
}
"""vLLM's."""


def check_said_once(engine: EngineConfig) -> None:
    """Raises ValueError if `engine.extra` says by the engine's own name what a key of `engine` says."""
    for theirs, ours in (OF_SGLANG if engine.is_sglang else OF_VLLM).items():
        require(
            theirs not in engine.extra, f"engine.extra.{theirs}", engine.extra.get(theirs),
            f"left out: engine.{ours} says it",
        )  # fmt: skip
