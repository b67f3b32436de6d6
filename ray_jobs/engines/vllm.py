"""Real vLLM v1: `AsyncLLM` with the bidkv scheduler (or, to see what that costs, its own), on a GPU or a CPU."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

from bidkv.adapters.shared.control import write_control
from bidkv.adapters.shared.settings import AdapterSettings
from bidkv.adapters.vllm import SCHEDULER
from bidkv.adapters.vllm.server.configure import AdapterConfig
from ray_jobs.engines.shared.base import request_facts
from ray_jobs.engines.shared.host_eviction import eviction_arguments
from ray_jobs.engines.shared.live import LiveEngine
from ray_jobs.engines.shared.models import model_folder
from ray_jobs.workload.trace import TraceRequest
from tracking.imports import large_imports

IDLE = AdapterSettings(strategy="preempt-evict", run_id="idle", client_facts=True)
"""Between two runs."""


class Backend(LiveEngine):
    async def start(self) -> dict[str, Any]:
        with large_imports():
            import vllm
            from vllm.engine.arg_utils import AsyncEngineArgs
            from vllm.v1.engine.async_llm import AsyncLLM

        self.engine = AsyncLLM.from_engine_args(AsyncEngineArgs(**self._engine_args()))
        scheduler = self.engine.vllm_config.scheduler_config
        chosen = scheduler.get_scheduler_cls()
        if not self.config.adapter and not chosen.__module__.startswith("vllm."):
            raise RuntimeError(
                f"engine.adapter=false, yet vLLM was given the scheduler {chosen.__qualname__}"
            )
        await self._warm_up()
        mode = "async" if scheduler.async_scheduling else "sync"
        environment = self._environment("vllm", vllm.__version__, mode)
        return environment | {"num_blocks": self.engine.vllm_config.cache_config.num_gpu_blocks}

    async def begin(self, settings: AdapterSettings) -> None:
        self._tell(settings)
        await self.empty_cache()  # the scheduler reads the control file when it is told to

    async def end(self) -> None:
        if self.engine.errored:
            raise RuntimeError(f"the engine died: {self.engine.dead_error}")
        # What was aborted last is still on its way to the scheduler, and belongs to this run.
        await self.empty_cache()
        self._tell(IDLE)
        await self.empty_cache()

    def _tell(self, settings: AdapterSettings) -> None:
        if self.config.adapter:
            write_control(self.control, settings)

    async def _reset_cache(self) -> bool:
        return await self.engine.reset_prefix_cache(reset_connector=bool(self.config.kv_offload_gib))

    def _engine_args(self) -> dict[str, Any]:
        config = self.config
        args = {
            "model": model_folder(config, self.folder),
            "skip_tokenizer_init": True,
            "load_format": config.load_format,
            "dtype": config.dtype,
            "block_size": config.block_size,
            "num_gpu_blocks_override": config.num_blocks,
            "max_num_seqs": config.max_num_seqs,
            "max_model_len": config.max_model_len,
            "max_num_batched_tokens": config.max_num_batched_tokens,
            "enable_prefix_caching": config.prefix_caching,
            "gpu_memory_utilization": config.gpu_memory_utilization,
            "tensor_parallel_size": config.tensor_parallel_size,
            "enforce_eager": config.enforce_eager,
            "seed": config.seed,
            "kv_offloading_size": config.kv_offload_gib or None,
            "disable_log_stats": True,
            **eviction_arguments(config),
        }
        if config.tensor_parallel_size > 1:
            # An engine's actor is in a placement group, in which vLLM would look for a bundle a GPU: all are of one here.
            args["distributed_executor_backend"] = "mp"
        if config.adapter:
            section = IDLE.to_dict() | {"control_file": str(self.control), "trusted_control": True}
            args |= {"scheduler_cls": SCHEDULER, "additional_config": AdapterConfig(section)}
        return args | dict(config.extra)

    async def generate(self, request: TraceRequest) -> AsyncIterator[Sequence[int]]:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        params = SamplingParams(
            temperature=0.0,
            max_tokens=request.output_tokens,
            ignore_eos=True,
            detokenize=False,
            output_kind=RequestOutputKind.DELTA,
            extra_args={"bidkv": request_facts(request, time.time())},
        )
        prompt = {"prompt_token_ids": request.prompt_token_ids.tolist()}
        stream = self.engine.generate(
            prompt, params, request_id=request.request_id, priority=request.priority
        )
        async for output in stream:
            if output.outputs[0].token_ids:
                yield output.outputs[0].token_ids

    def _unfinished(self) -> int:
        return 0 if self.engine.errored else self.engine.output_processor.get_num_unfinished_requests()
