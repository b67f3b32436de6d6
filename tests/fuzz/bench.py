"""vLLM's real scheduler and KV manager for any engine of a case; the configuration is made once and copied."""

from __future__ import annotations

import copy
from collections import deque
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from vllm import SamplingParams
from vllm.config import KVTransferConfig
from vllm.engine.arg_utils import EngineArgs
from vllm.lora.request import LoRARequest
from vllm.utils.hashing import get_hash_fn_by_name
from vllm.v1.core.kv_cache_utils import (
    get_request_block_hasher,
    init_none_hash,
    resolve_kv_cache_block_sizes,
)
from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.kv_cache_interface import (
    FullAttentionSpec,
    KVCacheConfig,
    KVCacheGroupSpec,
    MambaSpec,
    SlidingWindowSpec,
)
from vllm.v1.request import Request
from vllm.v1.structured_output import StructuredOutputManager
from vllm.v1.structured_output.backend_types import StructuredOutputGrammar

from bidkv.adapters.shared.events import RunLog
from bidkv.adapters.vllm.scheduler import BidKVAsyncScheduler, BidKVScheduler
from fuzz.cases import BLOCK, MAX_LEN, Engine
from fuzz.model import StandIn

WINDOW = 64


@cache
def base_config(model: Path, spec: int, loras: int) -> Any:
    """What takes a second the first time and 25 ms after that, so once for each kind."""
    extra: dict[str, Any] = {}
    if spec:
        extra["speculative_config"] = {
            "method": "ngram",
            "num_speculative_tokens": spec,
            "prompt_lookup_max": 3,
        }
    if loras:
        extra |= {"enable_lora": True, "max_loras": loras}
    return EngineArgs(
        model=str(model),
        dtype="float32",
        block_size=BLOCK,
        max_model_len=MAX_LEN,
        max_num_seqs=16,
        max_num_batched_tokens=MAX_LEN,
        skip_tokenizer_init=True,
        **extra,
    ).create_engine_config()


def engine_config(model: Path, engine: Engine, settings: dict[str, Any] | None) -> Any:
    """vLLM's configuration of an engine; `settings` are bidkv's."""
    config = copy.copy(base_config(model, engine.spec, engine.loras))
    config.additional_config = {"bidkv": settings} if settings is not None else {}
    scheduling = config.scheduler_config = copy.copy(config.scheduler_config)
    scheduling.max_num_seqs = engine.seats
    scheduling.max_num_batched_tokens = engine.budget
    scheduling.max_num_scheduled_tokens = None
    scheduling.enable_chunked_prefill = engine.chunked
    scheduling.long_prefill_token_threshold = engine.long_prefill
    scheduling.async_scheduling = engine.asynchronous
    scheduling.watermark = engine.watermark
    scheduling.scheduler_reserve_full_isl = engine.reserve_full
    caching = config.cache_config = copy.copy(config.cache_config)
    caching.num_gpu_blocks = engine.blocks
    caching.enable_prefix_caching = engine.caching
    caching.mamba_cache_mode = "align" if engine.layout == "mamba-align" else "none"
    parallel = config.parallel_config = copy.copy(config.parallel_config)
    parallel.decode_context_parallel_size = engine.dcp
    if engine.depth > 2 or (engine.depth > 1 and not engine.asynchronous):
        parallel.pipeline_parallel_size = engine.depth  # what brings several batches in flight
    if engine.connector != "none":
        config.kv_transfer_config = KVTransferConfig(
            kv_connector="FuzzConnector",
            kv_connector_module_path="fuzz.connector",
            kv_role="kv_both",
            kv_load_failure_policy="recompute",
            kv_connector_extra_config={
                "kind": engine.connector,
                "fails": engine.fail_loads,
                "block": BLOCK * engine.dcp,
            },
        )
    return config


def groups_of(layout: str) -> list[KVCacheGroupSpec]:
    """The KV cache groups of a model with that layout."""
    head = {"num_kv_heads": 1, "head_size": 32, "dtype": torch.float32}
    full = KVCacheGroupSpec(["full"], FullAttentionSpec(block_size=BLOCK, **head))

    def window(name: str, block: int = BLOCK) -> KVCacheGroupSpec:
        return KVCacheGroupSpec([name], SlidingWindowSpec(block_size=block, sliding_window=WINDOW, **head))

    def mamba(block: int, mode: str) -> KVCacheGroupSpec:
        spec = MambaSpec(block_size=block, shapes=((8, 8),), dtypes=(torch.float32,), mamba_cache_mode=mode)
        return KVCacheGroupSpec(["mamba"], spec)

    return {
        "full": lambda: [full],
        "window": lambda: [window("window")],
        "sliding": lambda: [full, window("window1"), window("window2")],
        "mamba": lambda: [full, mamba(MAX_LEN, "none")],
        "mamba-align": lambda: [full, mamba(BLOCK, "align")],
        "mixed": lambda: [full, window("window", 2 * BLOCK)],
    }[layout]()


class Bench:
    """Steps one scheduler as vLLM's engine core does. Without `settings` it is stock; `mutant` goes in front of its class."""

    def __init__(
        self,
        model: Path,
        engine: Engine,
        settings: dict[str, Any] | None = None,
        mutant: type | None = None,
    ):
        config = engine_config(model, engine, settings)
        cache_config = KVCacheConfig(
            num_blocks=engine.blocks, kv_cache_tensors=[], kv_cache_groups=groups_of(engine.layout)
        )
        block, hash_block = resolve_kv_cache_block_sizes(cache_config, config)
        scheduler_class = scheduler_of(engine.asynchronous, settings is None)
        bases = (scheduler_class,) if mutant is None else (mutant, scheduler_class)
        self.time = 1000.0
        records: list[dict[str, Any]] = []
        own = {"_bidkv_clock": staticmethod(lambda: self.time), "_bidkv_run_log": kept_log(records)}
        self.records = records  # what bidkv says of those that left
        self.scheduler = type(scheduler_class.__name__, bases, own)(
            vllm_config=config,
            kv_cache_config=cache_config,
            structured_output_manager=StructuredOutputManager(config),
            block_size=block,
            hash_block_size=hash_block,
        )
        self.engine = engine
        self._hasher = None
        if engine.caching or engine.connector != "none":
            hash_fn = get_hash_fn_by_name(config.cache_config.prefix_caching_hash_algo)
            init_none_hash(hash_fn)
            self._hasher = get_request_block_hasher(hash_block, hash_fn)
        exact = not (engine.spec and engine.asynchronous)
        checks = engine.layout == "full" and engine.connector == "none" and exact
        self.exact = exact  # whether the model's answers are `model.answer`
        self.model = StandIn(self.scheduler, block if checks else 0, engine.spec, exact)
        self._forget_changed_prompts()
        self.connector = self.scheduler.connector
        self.in_flight: deque[tuple[Any, Any]] = deque()
        self.delivered: dict[str, list[int]] = {}
        self.ended: dict[str, str] = {}

    def request(
        self,
        name: str,
        prompt: list[int],
        output: int,
        *,
        arrival: float,
        lora: int = 0,
        priority: int = 0,
        resumable: bool = False,
        facts: dict[str, Any] | None = None,
    ) -> Request:
        params = SamplingParams(
            temperature=0,
            max_tokens=output,
            ignore_eos=True,
            extra_args={"bidkv": facts} if facts else None,
        )
        return Request(
            request_id=name,
            prompt_token_ids=prompt,
            sampling_params=params,
            pooling_params=None,
            arrival_time=arrival,
            block_hasher=self._hasher,
            lora_request=LoRARequest(f"lora{lora}", lora, f"adapter-{lora}") if lora else None,
            priority=priority,
            resumable=resumable,
        )

    def _forget_changed_prompts(self) -> None:
        """A streaming session's next chunk takes the place of tokens that it had."""
        update = self.scheduler._update_request_as_session

        def updated(session: Request, *args: Any) -> None:
            self.model.forget(session.request_id)
            update(session, *args)

        self.scheduler._update_request_as_session = updated

    def schedule(self) -> Any:
        if self.connector is not None:
            self.connector.unknown.clear()
        output = self.scheduler.schedule()
        report = self.connector.output() if self.connector is not None else None
        self.in_flight.append((output, self.model.run(output, report)))
        return output

    def settle(self, output: Any) -> None:
        """Processes the oldest step's output, where so many are in flight or nothing else can be done."""
        self.time += 0.02
        if len(self.in_flight) >= self.engine.depth or not output.num_scheduled_tokens:
            self._update()

    def finish(self) -> None:
        while self.in_flight:
            self._update()

    def forget(self) -> None:
        """Everything that was written down for oracles so far."""
        self.delivered.clear()
        self.ended.clear()
        self.records.clear()
        self.model.forget_all()

    def _update(self) -> None:
        done, result = self.in_flight.popleft()
        outputs = self.scheduler.update_from_output(done, result)
        for of_client in outputs.values():
            for item in of_client.outputs:
                self.delivered.setdefault(item.request_id, []).extend(item.new_token_ids)
                if item.finish_reason is not None:
                    self.ended[item.request_id] = str(item.finish_reason)
        drafts = self.model.next_drafts
        if drafts is not None and not self.engine.asynchronous and done.num_scheduled_tokens:
            self.scheduler.update_draft_token_ids(drafts)


def kept_log(records: list[dict[str, Any]]) -> type[RunLog]:
    """A run log that also keeps the records of requests."""

    class KeptLog(RunLog):
        def request(self, record: Any) -> None:
            records.append(dict(record))
            super().request(record)

    return KeptLog


def scheduler_of(asynchronous: bool, stock: bool) -> type:
    if stock:
        return AsyncScheduler if asynchronous else Scheduler
    return BidKVAsyncScheduler if asynchronous else BidKVScheduler


class Grammar(StructuredOutputGrammar):
    """Takes every token."""

    accept_tokens = lambda self, *args: True  # noqa: E731
    validate_tokens = lambda self, tokens: tokens  # noqa: E731
    rollback = fill_bitmask = reset = lambda self, *args: None  # noqa: E731
    is_terminated = lambda self: False  # noqa: E731


def compiling() -> Any:
    """What stands for a request's structured output while its grammar is not there yet."""
    names = ("grammar", "reasoning_ended", "reasoning_parser_kwargs", "reasoning_end_token_index")
    return SimpleNamespace(**dict.fromkeys(names))
