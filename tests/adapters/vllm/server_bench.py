"""vLLM's real scheduler without a model, for what servers bring: LoRA slots, grammars, several KV cache groups, loads."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from vllm import SamplingParams
from vllm.engine.arg_utils import EngineArgs
from vllm.utils.hashing import get_hash_fn_by_name
from vllm.v1.core.kv_cache_utils import get_request_block_hasher, init_none_hash
from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.kv_cache_interface import FullAttentionSpec, KVCacheConfig, KVCacheGroupSpec, SlidingWindowSpec
from vllm.v1.outputs import ModelRunnerOutput
from vllm.v1.request import Request
from vllm.v1.structured_output import StructuredOutputManager

from bidkv.adapters.vllm.scheduler import create_scheduler

BLOCK = 16


class ServerBench:
    """Steps a scheduler as vLLM's engine core does; every decode answers one token and the drafts that `accepts` says.

    `strategy` None is vLLM's own scheduler. `started` has the names of requests in the order of their first tokens.
    """

    def __init__(
        self,
        model: Path,
        strategy: str | None,
        *,
        blocks: int = 101,
        seats: int = 64,
        budget: int = 2048,
        sliding_groups: int = 0,
        asynchronous: bool = False,
        settings: dict[str, Any] | None = None,
        accepts: Callable[[Request, int], int] = lambda request, drafts: drafts,
        **engine: Any,
    ):
        bidkv = {"strategy": strategy or "stock", "run_id": "server"} | (settings or {})
        config = EngineArgs(
            model=str(model),
            dtype="float32",
            block_size=BLOCK,
            max_model_len=32768,
            max_num_seqs=seats,
            max_num_batched_tokens=budget,
            skip_tokenizer_init=True,
            additional_config={"bidkv": bidkv},
            hf_overrides={"max_position_embeddings": 32768},
            **{"enable_prefix_caching": False} | engine,
        ).create_engine_config()
        config.cache_config.num_gpu_blocks = blocks
        config.scheduler_config.async_scheduling = asynchronous
        stock = AsyncScheduler if asynchronous else Scheduler
        self.scheduler = (create_scheduler if strategy else stock)(
            vllm_config=config,
            kv_cache_config=KVCacheConfig(
                num_blocks=blocks, kv_cache_tensors=[], kv_cache_groups=groups(sliding_groups)
            ),
            structured_output_manager=StructuredOutputManager(config),
            block_size=BLOCK,
        )
        self.scheduler.structured_output_manager.accept_tokens = lambda *_: True
        self._hasher = None
        if config.cache_config.enable_prefix_caching:
            function = get_hash_fn_by_name(config.cache_config.prefix_caching_hash_algo)
            init_none_hash(function)
            self._hasher = get_request_block_hasher(BLOCK, function)
        self.steps, self.started, self.requests = 0, [], {}
        self._accepts, self._depth = accepts, 2 if asynchronous else 1
        self._in_flight: deque[tuple[Any, ModelRunnerOutput]] = deque()

    def request(self, name: str, prompt: int | Sequence[int], output: int, **more: Any) -> Request:
        number = len(self.requests)
        ids = (
            [(number * 7919 + i * 31) % 2000 + 3 for i in range(prompt)]
            if isinstance(prompt, int)
            else list(prompt)
        )
        params = SamplingParams(temperature=0, max_tokens=output, ignore_eos=True)
        more = {"arrival_time": float(number), "block_hasher": self._hasher} | more
        return Request(
            request_id=name, prompt_token_ids=ids, sampling_params=params, pooling_params=None, **more
        )

    def add(self, name: str, prompt: int | Sequence[int], output: int, **more: Any) -> Request:
        request = self.requests[name] = self.request(name, prompt, output, **more)
        self.scheduler.add_request(request)
        return request

    def step(self) -> Any:
        output = self.scheduler.schedule()
        known = set(self.started)
        self.started += [name for name in output.num_scheduled_tokens if name not in known]
        self._in_flight.append((output, self._answer(output)))
        if len(self._in_flight) >= self._depth or not output.num_scheduled_tokens:
            self.scheduler.update_from_output(*self._in_flight.popleft())
        self.steps += 1
        return output

    def run(self, most: int = 50_000) -> int:
        """Until all is answered; the steps that took."""
        first = self.steps
        while self.scheduler.has_unfinished_requests():
            self.step()
            assert self.steps - first < most, self.scheduler.get_request_counts()
        while self._in_flight:
            self.scheduler.update_from_output(*self._in_flight.popleft())
        return self.steps - first

    def _answer(self, output: Any) -> ModelRunnerOutput:
        names, sampled = list(output.num_scheduled_tokens), []
        for name in names:
            request, drafts = (
                self.scheduler.requests[name],
                len(output.scheduled_spec_decode_tokens.get(name, ())),
            )
            tokens = 0 if request.is_prefill_chunk else 1 + (self._accepts(request, drafts) if drafts else 0)
            sampled.append([5] * tokens)
        return ModelRunnerOutput(names, {name: i for i, name in enumerate(names)}, sampled)


def groups(sliding: int, window: int = 512) -> list[KVCacheGroupSpec]:
    """One group of full attention and so many of sliding windows, as of Gemma 3."""
    size = {"block_size": BLOCK, "num_kv_heads": 1, "head_size": 32, "dtype": torch.float32}
    full = [KVCacheGroupSpec(["full"], FullAttentionSpec(**size))]
    return full + [
        KVCacheGroupSpec([f"window{i}"], SlidingWindowSpec(sliding_window=window, **size))
        for i in range(sliding)
    ]
