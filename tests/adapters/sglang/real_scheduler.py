"""SGLang's real scheduler, event loop, memory and radix tree in this process. Only the model is a stand-in: its
tokens are made up from the prompt and the position, so that outputs do not depend on the schedule."""

from __future__ import annotations

import logging
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from sglang.srt.distributed import bootstrap
from sglang.srt.managers.io_struct import AbortReq, TokenizedGenerateReqInput
from sglang.srt.managers.utils import GenerationBatchResult
from sglang.srt.sampling.sampling_params import SamplingParams
from sglang.srt.server_args import ServerArgs

from ray_jobs.engines.sim.sglang import messages
from ray_jobs.engines.sim.sglang.alone import ON_CPU, SchedulerAlone

VOCABULARY, MAX_LEN = 512, 1024


class RealScheduler(SchedulerAlone):
    """Rounds of the event loop that SGLang itself runs, each of which first takes in what `before_round` gives it."""

    limit = 5_000  # rounds after which a run hangs

    def __init__(self, model: Path, **args: Any):
        logging.getLogger("sglang").setLevel(logging.ERROR)
        fixed = {
            "model_path": str(model),
            "skip_tokenizer_init": True,
            "random_seed": 0,
            "log_level": "error",
        }
        server = ServerArgs(**{"context_length": MAX_LEN, **ON_CPU, **fixed, **args})
        build = bootstrap.init_parallel_runtime
        if bootstrap._PARALLEL_INITIALISED:  # the process has its groups already
            bootstrap.init_parallel_runtime = lambda **_: None
        try:
            super().__init__(server)
        finally:
            bootstrap.init_parallel_runtime = build
        self.before_round: Callable[[int], Sequence[Any]] = lambda number: ()
        self.outputs: dict[str, list[int]] = {}
        self.aborted: set[str] = set()
        self.steps: list[list[tuple[str, int]]] = []  # (id, tokens) of what each step ran
        self.history: list[
            tuple[str, str]
        ] = []  # ("wait", id), ("start", id) and ("leave", id), as they happen
        self.began: set[str] = set()
        self.reasons: dict[str, Any] = {}
        self.allowed: dict[str, int] = {}  # output tokens at most, as SGLang limits them to its memory
        self.round = self.retracted = 0

    # -- what a tokenizer process would do ------------------------------------------------------

    def ingest_requests(self, stop_at_pause: bool = False) -> list[Any]:
        self.round += 1
        taken = list(self.before_round(self.round))
        self.process_input_requests(taken)
        if self.round > self.limit:
            raise AssertionError(f"nothing comes to an end: {len(self.waiting_queue)} wait")
        return taken

    def request(
        self, rid: str, prompt: Sequence[int], output: int, priority: int | None = None, **facts: Any
    ) -> TokenizedGenerateReqInput:
        """A request for `output` tokens; `facts` are what its client declares to bidkv, `ignore_eos` aside."""
        ignore_eos = facts.pop("ignore_eos", False)
        sampling = SamplingParams(
            max_new_tokens=output, ignore_eos=ignore_eos, custom_params={"bidkv": facts} if facts else None
        )
        return messages.tokenized(rid, prompt, sampling, priority)

    @staticmethod
    def abort(rid: str) -> AbortReq:
        return messages.abort(rid)

    # -- the model ------------------------------------------------------------------------------

    def _forward(self, batch: Any, **_: Any) -> GenerationBatchResult:
        tokens = [made_up(r, n) for r, n in zip(batch.reqs, batch.seq_lens.tolist(), strict=True)]
        return GenerationBatchResult(next_token_ids=torch.tensor(tokens), can_run_cuda_graph=False)

    def run_batch(self, batch: Any, *args: Any, **kwargs: Any) -> Any:
        sizes = batch.extend_lens if batch.forward_mode.is_extend() else [1] * len(batch.reqs)
        self.steps.append([(req.rid, size) for req, size in zip(batch.reqs, sizes, strict=True)])
        if batch.forward_mode.is_extend():
            new = [r.rid for r in batch.reqs if r not in (batch.decoding_reqs or ())]
            self.history += [("start", rid) for rid in new]
            self.began.update(new)
        return super().run_batch(batch, *args, **kwargs)

    def process_batch_result(self, batch: Any, result: Any) -> Any:
        before = {req.rid for req in batch.reqs if req.finished()}
        returned = super().process_batch_result(batch, result)
        for req in batch.reqs:
            if req.finished() and req.rid not in before:
                self.outputs[req.rid] = list(req.output_ids)
                self.reasons[req.rid] = req.finished_reason.to_json()
                self.allowed[req.rid] = req.sampling_params.max_new_tokens
        return returned

    def _add_request_to_queue(self, req: Any, is_retracted: bool = False) -> None:
        self.retracted += req.rid in self.began
        super()._add_request_to_queue(req, is_retracted)
        if self.waiting_queue and self.waiting_queue[-1] is req:
            self.history.append(("wait", req.rid))

    def abort_request(self, recv_req: Any) -> None:
        super().abort_request(recv_req)  # SGLang keeps this method from the start: hooks come later here

    def send_abort_output(self, abort_req: Any, req: Any) -> None:
        self.aborted.add(req.rid)
        self.history.append(("leave", req.rid))
        super().send_abort_output(abort_req, req)

    # -- running --------------------------------------------------------------------------------

    def on_idle(self) -> None:
        """Nothing runs and nothing is under way. SGLang's own check of its memory is part of it."""
        super().on_idle()
        if self.is_fully_idle() and not self.expects_more():
            self.gracefully_exit = True

    def run(self, before_round: Callable[[int], Sequence[Any]], expects_more: Callable[[], bool]) -> None:
        """Runs SGLang's event loop until everything has ended and `expects_more` says no."""
        self.before_round, self.expects_more = before_round, expects_more
        self.gracefully_exit, self.round = False, 0
        self.steps, self.history, self.outputs, self.aborted, self.retracted = [], [], {}, set(), 0
        self.began, self.reasons, self.allowed = set(), {}, {}
        self.run_event_loop()

    def reset(self) -> None:
        """An empty cache and a new ratio, as after the start."""
        assert self.flush_cache(empty_cache=False), "something is still held"
        self.new_token_ratio_tracker = type(self.new_token_ratio_tracker).from_config()
        self.forward_ct = self.processed_tokens_counter = 0
        self.policy._waiting_prefix_refresh_calls = 0

    def leftovers(self) -> dict[str, Any]:
        """What a finished load must have given back: all zero or empty."""
        pool = self.token_to_kv_pool_allocator
        return {
            "tokens": pool.size - pool.available_size() - self.tree_cache.evictable_size(),
            "rows": self.req_to_token_pool.size - self.req_to_token_pool.available_size(),
            "protected": self.tree_cache.protected_size(),
            "waiting": len(self.waiting_queue),
            "running": len(self.running_batch.reqs),
        }


def started(scheduler: RealScheduler) -> list[str]:
    """Requests in the order in which they first ran."""
    return list(dict.fromkeys(rid for step in scheduler.steps for rid, _ in step))


def most_overtaken(history: Sequence[tuple[str, str]]) -> int:
    """How often a request was overtaken, while it waited, by one that joined later; the most of all.

    A request that runs and waits again keeps when it joined, and is counted from nothing.
    """
    joined: dict[str, int] = {}
    waiting: dict[str, int] = {}
    most = 0
    for event, rid in history:
        if event == "wait":
            joined.setdefault(rid, len(joined))
            waiting.setdefault(rid, 0)
        elif waiting.pop(rid, None) is not None and event == "start":
            for other in waiting:
                if joined[other] < joined[rid]:
                    waiting[other] += 1
                    most = max(most, waiting[other])
    return most


def made_up(req: Any, position: int) -> int:
    """The token at a position: never one that ends an output."""
    return 10 + (zlib.crc32(req.origin_input_ids.tobytes()) + 31 * position) % (VOCABULARY - 20)
