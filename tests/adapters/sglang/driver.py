"""Drives SGLang's real batches, requests, radix tree and allocator without a model: tokens are made up."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from sglang.srt.configs.model_config import ModelConfig
from sglang.srt.disaggregation.utils import DisaggregationMode
from sglang.srt.managers.schedule_batch import Req, ScheduleBatch
from sglang.srt.mem_cache.allocator.paged import PagedTokenToKVPoolAllocator
from sglang.srt.mem_cache.allocator.token import TokenToKVPoolAllocator
from sglang.srt.mem_cache.cache_init_params import CacheInitParams
from sglang.srt.mem_cache.common import checkpoint_kv_cache, release_kv_cache
from sglang.srt.mem_cache.memory_pool import MHATokenToKVPool, ReqToTokenPool
from sglang.srt.mem_cache.unified_cache.component_type import ComponentType
from sglang.srt.mem_cache.unified_radix_cache import UnifiedRadixCache
from sglang.srt.runtime_context import publish
from sglang.srt.sampling.sampling_params import SamplingParams
from sglang.srt.server_args import ServerArgs
from sglang.srt.speculative.spec_info import SpeculativeAlgorithm

MAX_REQUESTS, MAX_LEN, VOCABULARY = 64, 1024, 512


class Driver:
    """A scheduler's memory, and the steps of a batch on it. `tokens` and `page_size` are in tokens."""

    def __init__(self, model: Path, tokens: int, page_size: int = 1, tree: bool = True):
        args = ServerArgs(
            model_path=str(model),
            device="cpu",
            load_format="dummy",
            skip_tokenizer_init=True,
            page_size=page_size,
        )
        publish(args, role="scheduler")
        kv = MHATokenToKVPool(tokens, page_size, torch.float32, 1, 8, 1, "cpu", False)
        if page_size == 1:
            allocator = TokenToKVPoolAllocator(tokens, torch.float32, "cpu", kv, need_sort=False)
        else:
            allocator = PagedTokenToKVPoolAllocator(
                tokens, page_size, torch.float32, "cpu", kv, need_sort=False
            )
        rows = ReqToTokenPool(MAX_REQUESTS, MAX_LEN, "cpu", enable_memory_saver=False)
        params = CacheInitParams(not tree, rows, allocator, page_size, tree_components=(ComponentType.FULL,))
        self.tokens, self.page_size = tokens, page_size
        self.rows, self.allocator, self.tree = rows, allocator, UnifiedRadixCache(params)
        self.model_config = ModelConfig.from_server_args(args)
        self.batch: ScheduleBatch | None = None
        self.scheduler = SimpleNamespace(
            server_args=args,
            tree_cache=self.tree,
            token_to_kv_pool_allocator=allocator,
            spec_algorithm=SpeculativeAlgorithm.NONE,
            disaggregation_mode=DisaggregationMode.NULL,
            dllm_config=None,
            enable_overlap=False,
            max_running_requests=MAX_REQUESTS,
            chunked_req=None,
            is_mixed_chunk=False,
            waiting_queue=[],
            max_queued_requests=None,
            running_batch=None,
            ps=SimpleNamespace(tp_rank=0, dp_rank=None),
        )

    def request(
        self, rid: str, prompt: Sequence[int], facts: dict[str, Any] | None = None, **params: Any
    ) -> Req:
        sampling = SamplingParams(max_new_tokens=256, custom_params={"bidkv": facts or {}}, **params)
        sampling.normalize(None)
        return Req(rid, "", array("q", prompt), sampling, vocab_size=VOCABULARY)

    def admit(self, reqs: Sequence[Req]) -> ScheduleBatch:
        """Prefills requests (all tokens they have so far) and gives each its next token."""
        for req in reqs:
            req.init_next_round_input(self.tree)
            req.extend_end = len(req.full_untruncated_fill_ids)
            req.lock = self.tree.lock(req.last_node)
        batch = ScheduleBatch.init_new(
            list(reqs),
            self.rows,
            self.allocator,
            self.tree,
            self.model_config,
            False,
            SpeculativeAlgorithm.NONE,
        )
        batch.prepare_for_extend()
        for req in reqs:
            req.output_ids.append(self.next_token(req))
            checkpoint_kv_cache(req, self.tree)
        return batch

    def join(self, batch: ScheduleBatch) -> None:
        """Lets a prefilled batch go on with the running one."""
        if self.batch is None or self.batch.is_empty():
            self.batch = batch
        else:
            self.batch.merge_batch(batch)

    def decode(self) -> None:
        """One decode step of the running batch, which must fit."""
        self.batch.prepare_for_decode()
        for req in self.batch.reqs:
            req.output_ids.append(self.next_token(req))

    def finish(self, req: Req) -> None:
        """Ends a running request; its KV stays in the tree, evictable."""
        from sglang.srt.managers.schedule_batch import FINISH_LENGTH

        req.finished_reason = FINISH_LENGTH(length=len(req.output_ids))
        release_kv_cache(req, self.tree, checkpoint=True)
        self.batch.filter_batch()

    def reclaimable(self) -> int:
        return self.allocator.available_size() + self.tree.evictable_size()

    @staticmethod
    def next_token(req: Req) -> int:
        """A token that depends on everything before it, as a model's would."""
        ids = [*req.origin_input_ids, *req.output_ids]
        return (sum((i + 1) * token for i, token in enumerate(ids[-8:])) + len(ids)) % VOCABULARY

    def pages_by_row(self, reqs: Sequence[Req]) -> dict[str, set[int]]:
        """The pages each request maps, read slot by slot from the request-to-token table."""
        pages = {}
        for req in reqs:
            row = self.rows.req_to_token[req.kv.req_pool_idx, : req.kv.kv_allocated_len]
            pages[req.rid] = {int(slot) // self.page_size for slot in row}
        return pages


def private_pages(pages: dict[str, set[int]]) -> dict[str, int]:
    """How many of its pages each request alone maps: the definition, by counting owners."""
    owners = Counter(page for held in pages.values() for page in held)
    return {rid: sum(owners[page] == 1 for page in held) for rid, held in pages.items()}


class Load:
    """Runs requests to the length of their facts, retracting and resuming as SGLang's scheduler does.

    `adapter` sees arrivals, steps and results as its hooks on the scheduler would show them.
    """

    def __init__(self, driver: Driver, reqs: Sequence[Req], adapter: Any = None, seats: int = MAX_REQUESTS):
        self.driver = driver
        self.adapter = adapter
        self.seats = seats
        self.lengths = {
            req.rid: req.sampling_params.custom_params["bidkv"]["true_output_tokens"] for req in reqs
        }
        self.outputs: dict[str, list[int]] = {}
        self.victims: list[str] = []
        for req in reqs:
            self.enqueue(req, False)

    def run(self, before_retraction: Any = None) -> None:
        """Until every request has its output. Calls `before_retraction(batch, victims so far)` before each one."""
        driver = self.driver
        while driver.scheduler.waiting_queue or (driver.batch is not None and not driver.batch.is_empty()):
            new = self._fitting()
            if new:
                batch = driver.admit(new)
                self._step(batch)
                driver.join(batch)
            else:
                if not driver.batch.check_decode_mem():
                    if before_retraction is not None:
                        before_retraction(driver.batch, len(self.victims))
                    retracted, _, aborted = driver.batch.retract_decode()
                    assert not aborted, "the pool is too small for one request"
                    self.victims += [req.rid for req in retracted]
                    for req in retracted:
                        self.enqueue(req, True)
                driver.decode()
                self._step(driver.batch)
            self._collect()

    def enqueue(self, req: Req, is_retracted: bool) -> None:
        def append(scheduler: Any, req: Req, is_retracted: bool) -> None:
            scheduler.waiting_queue.append(req)

        if self.adapter is None:
            append(self.driver.scheduler, req, is_retracted)
        else:
            self.adapter._add_request_to_queue(append, self.driver.scheduler, req, is_retracted)

    def _fitting(self) -> list[Req]:
        """The head of the queue as far as it fits now; what decoding will need is left to luck."""
        driver, new = self.driver, []
        running = 0 if driver.batch is None else driver.batch.batch_size()
        room = driver.reclaimable()
        for req in list(driver.scheduler.waiting_queue):
            size = len(req.origin_input_ids) + len(req.output_ids) + driver.page_size
            room -= size
            if running + len(new) >= self.seats or room < 0:
                break
            new.append(req)
        driver.scheduler.waiting_queue = driver.scheduler.waiting_queue[len(new) :]
        return new

    def _step(self, batch: ScheduleBatch) -> None:
        if self.adapter is not None:
            self.adapter.run_batch(lambda scheduler, batch: None, self.driver.scheduler, batch)

    def _collect(self) -> None:
        done = [r for r in self.driver.batch.reqs if len(r.output_ids) >= self.lengths[r.rid]]
        for req in done:
            self.outputs[req.rid] = list(req.output_ids)
            self.driver.finish(req)
        if self.adapter is not None:
            result = SimpleNamespace(reqs=done)
            self.adapter.process_batch_result(lambda *_: None, self.driver.scheduler, result, None)
