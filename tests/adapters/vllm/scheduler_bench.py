"""A real vLLM scheduler over a stand-in for the model that remembers what it wrote to every KV slot."""

from __future__ import annotations

import zlib
from collections import deque
from pathlib import Path
from typing import Any

import torch
from vllm import SamplingParams
from vllm.engine.arg_utils import EngineArgs
from vllm.utils.hashing import get_hash_fn_by_name
from vllm.v1.core.kv_cache_utils import get_request_block_hasher, init_none_hash
from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.kv_cache_interface import FullAttentionSpec, KVCacheConfig, KVCacheGroupSpec
from vllm.v1.outputs import ModelRunnerOutput
from vllm.v1.request import Request
from vllm.v1.structured_output import StructuredOutputManager

from bidkv.adapters.vllm.scheduler import create_scheduler

BLOCK_SIZE = 32


class SchedulerBench:
    """Steps a scheduler like vLLM's engine core does: one step in flight, or two if asynchronous.

    The stand-in writes a checksum of the prefix to the KV slot of every token it is given, and
    raises if a request is scheduled on KV that does not hold its own prefix. Its next token depends
    on the prompt and the position alone, so outputs must not depend on the schedule.
    """

    def __init__(
        self,
        model: Path,
        settings: dict[str, Any],
        *,
        blocks: int = 24,
        seats: int = 16,
        budget: int = 512,
        prefix_caching: bool = False,
        asynchronous: bool = False,
        stock: bool = False,
        **scheduler_config: Any,
    ):
        if "strategy" in settings:  # else they are in a control file
            settings = {"client_facts": True, **settings}
        config = EngineArgs(
            model=str(model),
            dtype="float32",
            block_size=BLOCK_SIZE,
            max_model_len=1024,
            max_num_seqs=seats,
            max_num_batched_tokens=budget,
            enable_prefix_caching=prefix_caching,
            skip_tokenizer_init=True,
            additional_config={"bidkv": settings},
            **scheduler_config,
        ).create_engine_config()
        config.cache_config.num_gpu_blocks = blocks
        config.scheduler_config.async_scheduling = asynchronous
        spec = FullAttentionSpec(block_size=BLOCK_SIZE, num_kv_heads=1, head_size=32, dtype=torch.float32)
        kv_cache = KVCacheConfig(
            num_blocks=blocks, kv_cache_tensors=[], kv_cache_groups=[KVCacheGroupSpec(["layer"], spec)]
        )
        create = create_scheduler
        if stock:
            create = AsyncScheduler if asynchronous else Scheduler
        self.scheduler = create(
            vllm_config=config,
            kv_cache_config=kv_cache,
            structured_output_manager=StructuredOutputManager(config),
            block_size=BLOCK_SIZE,
        )
        self._hasher = None
        if prefix_caching:
            hash_fn = get_hash_fn_by_name(config.cache_config.prefix_caching_hash_algo)
            init_none_hash(hash_fn)
            self._hasher = get_request_block_hasher(BLOCK_SIZE, hash_fn)
        self._in_flight: deque[tuple[Any, ModelRunnerOutput]] = deque()
        self._depth = 2 if asynchronous else 1
        self._kv: dict[tuple[int, int], int] = {}  # (block, offset) -> checksum of the prefix in that slot
        self._prefixes: dict[str, list[int]] = {}  # checksum of each prefix of a request
        self._written: dict[str, int] = {}  # where a request's last step ended
        self.requests: dict[str, Request] = {}

    def add(self, name: str, prompt: list[int], output: int, **facts: Any) -> Request:
        params = SamplingParams(
            temperature=0, max_tokens=output, ignore_eos=True, extra_args={"bidkv": facts} if facts else None
        )
        request = Request(
            request_id=f"{name}-0123abcd",
            prompt_token_ids=prompt,
            sampling_params=params,
            pooling_params=None,
            arrival_time=float(len(self.requests)),
            block_hasher=self._hasher,
        )
        self.requests[name] = request
        self.scheduler.add_request(request)
        return request

    def step(self) -> Any:
        """One schedule() and, when enough steps are in flight, the oldest one's output."""
        output = self.scheduler.schedule()
        self._in_flight.append((output, self._run(output)))
        if len(self._in_flight) >= self._depth or not output.num_scheduled_tokens:
            self.scheduler.update_from_output(*self._in_flight.popleft())
        return output

    def run(self, steps: int = 20_000) -> None:
        for _ in range(steps):
            if not self.scheduler.has_unfinished_requests():
                while self._in_flight:
                    self.scheduler.update_from_output(*self._in_flight.popleft())
                return
            self.step()
        raise AssertionError(f"requests left after {steps} steps")

    def _run(self, output: Any) -> ModelRunnerOutput:
        ids = list(output.num_scheduled_tokens)
        sampled = [self._compute(self.scheduler.requests[i], output.num_scheduled_tokens[i]) for i in ids]
        return ModelRunnerOutput(
            req_ids=ids, req_id_to_index={r: i for i, r in enumerate(ids)}, sampled_token_ids=sampled
        )

    def _compute(self, request: Request, tokens: int) -> list[int]:
        """Writes the KV of the step's positions and returns the sampled token.

        KV of earlier positions is checked when the request is admitted or resumed.
        """
        end = request.num_computed_tokens
        start = end - tokens
        (blocks,) = self.scheduler.kv_cache_manager.get_block_ids(request.request_id)
        prefixes = self._prefixes.setdefault(request.request_id, [])
        while len(prefixes) < end:
            token = self.token(request, len(prefixes)).to_bytes(4, "little")
            prefixes.append(zlib.crc32(token, prefixes[-1] if prefixes else 0))
        if self._written.get(request.request_id) != start:
            for position in range(start):
                slot = (blocks[position // BLOCK_SIZE], position % BLOCK_SIZE)
                if self._kv.get(slot) != prefixes[position]:
                    raise StaleKVError(f"{request.request_id}: position {position} of {end} in slot {slot}")
        for position in range(start, end):
            self._kv[blocks[position // BLOCK_SIZE], position % BLOCK_SIZE] = prefixes[position]
        self._written[request.request_id] = end
        known = request.num_prompt_tokens + request.num_output_tokens
        return [self.token(request, end)] if end >= known else []

    @staticmethod
    def token(request: Request, position: int) -> int:
        if position < request.num_prompt_tokens:
            return request.prompt_token_ids[position]
        return (sum(request.prompt_token_ids) + 31 * position) % 2000 + 3

    def expected_output(self, request: Request) -> list[int]:
        start = request.num_prompt_tokens
        return [self.token(request, start + i) for i in range(request.max_tokens)]


class StaleKVError(AssertionError):
    """A request was scheduled on KV that was never computed for its prefix."""
