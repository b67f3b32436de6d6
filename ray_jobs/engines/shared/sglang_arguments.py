"""An engine's configuration in SGLang's words."""

from __future__ import annotations

from typing import Any

from ray_jobs.engines.config import EngineConfig
from ray_jobs.engines.shared.models import FROM_SHAPE, SPARE, TINY


def engine_arguments(config: EngineConfig) -> dict[str, Any]:
    """`config` by SGLang's names, all but the model. What it has not said is left to SGLang."""
    made_here = config.simulated or config.model in (TINY, FROM_SHAPE)
    args = {
        "skip_tokenizer_init": True,
        "load_format": config.load_format,
        "dtype": config.dtype,
        "page_size": config.block_size,
        "max_total_tokens": config.num_blocks and config.num_blocks * config.block_size,
        "max_running_requests": config.max_num_seqs,
        "context_length": config.max_model_len + (SPARE if made_here else 0),
        "chunked_prefill_size": config.max_num_batched_tokens,
        "disable_radix_cache": not config.prefix_caching,
        "mem_fraction_static": config.gpu_memory_utilization,
        "tp_size": config.tensor_parallel_size,
        "random_seed": config.seed,
        "disable_cuda_graph": config.enforce_eager or None,
        "log_level": "warning",
    } | dict(config.extra)
    return {key: value for key, value in args.items() if value is not None}
