"""The loads of `bench_schedule.py`: settings in which schedule() has much to look at, and who plays the engine."""

from __future__ import annotations

import copy
from collections import deque
from dataclasses import dataclass, replace
from random import Random
from time import thread_time_ns, time
from typing import Any

from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.outputs import ModelRunnerOutput
from vllm.v1.request import RequestStatus

from bidkv.adapters.vllm.scheduler import create_scheduler
from bidkv.request import FinishedRequest
from ray_jobs.engines.sim.build import SchedulerParts, make_request, run_config
from ray_jobs.engines.sim.scheduler import NoGrammar, make_scheduler

BLOCK, DECLARED = 16, 1024
OUTPUTS = (50, 600)


@dataclass(frozen=True)
class Case:
    """One setting. Prompts are `shared` tokens that all have, and `prompt` (fewest, most) tokens of their own.

    Live: the queue is kept at `waiting`, memory is what limits who runs. With `free`, the first in line is blocked
    for good: `running` requests decode, none ends, and before each step all but `free` blocks are
    taken away. Stock gets `stock_free`, with which its head is blocked, too, where only the
    strategy's growth rule blocks it at `free`; that rule's share is `growth` then, with which it does so whatever the default is.
    """

    name: str
    blocks: int
    waiting: int = 200
    seats: int = 256
    shared: int = 0
    prompt: tuple[int, int] = (200, 2000)
    caching: bool = True
    budget: int = 8192
    running: int = 0
    free: int = 0
    stock_free: int = 60
    growth: float = 0.0


_SAME = (1200, 1200)  # nobody behind a blocked head is smaller: all who may be looked at are
CASES = (
    Case("no shared prefix", 8_001),
    Case("8k system prompt", 8_501, shared=8_000),
    Case("32k system prompt", 10_001, shared=32_000),
    Case("caching off", 16_001, caching=False),
    Case("caching off, 512 seats", 36_001, caching=False, seats=512),
    Case("100k system prompt", 10_001, shared=100_000, seats=64, waiting=60),
    Case("100k prompts", 75_001, prompt=(90_000, 110_000), seats=64, waiting=60),
    Case("5,000 waiting", 16_001, waiting=5_000),
    Case("50,000 waiting, caching off", 6_001, waiting=50_000, prompt=(100, 400), caching=False),
    Case("blocked by memory, 5,000 waiting", 60_001, 5_000, 512, 0, _SAME, True, 16_384, 256, 60),
    Case("the same, 50,000, caching off", 60_001, 50_000, 512, 0, _SAME, False, 16_384, 256, 60),
    Case("blocked by memory, 100k shared", 60_001, 100, 512, 100_000, _SAME, True, 16_384, 64, 60),
    Case(
        "blocked by growth, 5,000 waiting", 25_001, 5_000, 512, 0, _SAME, True, 16_384, 256, 340, growth=0.3
    ),
    Case("the same, caching off", 25_001, 5_000, 512, 0, _SAME, False, 16_384, 256, 340, growth=0.3),
    Case(
        "blocked by growth, 512 running", 52_001, 5_000, 1024, 0, _SAME, False, 16_384, 512, 640, growth=0.3
    ),
)


class Load:
    """The same requests for every scheduler, by number. Tokens are cut out of one long random text."""

    def __init__(self, case: Case, parts: SchedulerParts):
        draw = Random(9)
        self._text = [draw.randrange(3, 30_000) for _ in range(1_000_000)]
        self._case, self._parts, self._shared = case, parts, self._text[: case.shared]
        if parts.block_hasher is not None and case.shared:
            known = self._make("hashes", self._shared, 1, 0.0).block_hashes
            self._parts = replace(parts, block_hasher=_knowing(known, parts.block_hasher))

    def request(self, number: int, endless: bool = False) -> Any:
        draw = Random(number)
        length = draw.randint(*self._case.prompt)
        start = draw.randrange(self._case.shared, len(self._text) - length)
        prompt = self._shared + self._text[start : start + length]
        output = 20_000 if endless else draw.randint(*OUTPUTS)
        return self._make(f"r{number}", prompt, output, float(number))

    def _make(self, name: str, prompt: list[int], output: int, arrival: float) -> Any:
        return make_request(
            self._parts, name, prompt, max_tokens=output, arrival_time=arrival, priority=0,
            declared={"max_tokens": DECLARED},
        )  # fmt: skip


def _knowing(known: list[Any], hasher: Any) -> Any:
    """A block hasher that need not compute `known` again; each request gets bytes of its own, as on a server."""

    def hashes(request: Any) -> list[Any]:
        if request.block_hashes:
            return hasher(request)
        first = [bytes(bytearray(one)) for one in known]
        request.block_hashes.extend(first)  # for as long as the hasher looks at it
        new = hasher(request)
        request.block_hashes.clear()
        return first + new

    return hashes


class Machine:
    """A scheduler under load; the stand-in for the model answers every request that is due with one token."""

    def __init__(
        self,
        case: Case,
        parts: SchedulerParts,
        load: Load,
        strategy: str | None,
        overlap: bool,
        counting: bool = False,
        **more: Any,
    ):
        """`strategy` None is vLLM's own scheduler, without the adapter. With `counting` it is the simulator's, which
        counts what it looks at. `more` are further settings of the adapter."""
        parts = _parts_of(case, parts, overlap)
        settings = {"strategy": strategy, "run_id": "bench", "kill_switch": strategy == "stock"} | more
        if counting:
            self.scheduler = make_scheduler(parts, settings, time, shortcuts=False)
        else:
            make = create_scheduler if strategy else AsyncScheduler if overlap else Scheduler
            self.scheduler = make(
                vllm_config=run_config(parts, settings if strategy else {}),
                kv_cache_config=parts.kv_cache_config, structured_output_manager=NoGrammar(),
                block_size=BLOCK, hash_block_size=BLOCK, log_stats=False,
            )  # fmt: skip
        self.case, self._load, self._depth = case, load, 2 if overlap else 1
        self._free = case.free if strategy not in (None, "stock") else case.stock_free
        self.scheduled = 0  # requests in the latest step
        self._count = 0
        self._stays: set[str] = set()
        self._taken: list[Any] = []
        self._in_flight: deque[tuple[Any, Any]] = deque()
        if strategy:
            _teach(self.scheduler._bidkv_session.strategy)
            admission = self.scheduler._bidkv_session.strategy.admission
            if case.growth and hasattr(admission, "growth"):
                admission.growth = case.growth

    def fill(self) -> None:
        """Until the case's state is reached."""
        scheduler, case = self.scheduler, self.case
        if not case.free:
            while len(self.scheduler.waiting) < case.waiting:
                self._add()
            return
        for _ in range(case.running):
            self._stays.add(self._add(endless=True))
        while len(scheduler.running) < case.running or any(r.is_prefill_chunk for r in scheduler.running):
            self._step()
        self._hold_blocks()

    def step(self) -> tuple[int, int]:
        """CPU nanoseconds of schedule() and of update_from_output()."""
        while len(self.scheduler.waiting) < self.case.waiting:
            self._add()
        if self.case.free:
            self._hold_blocks()
        spent = self._step()
        if self.case.free:
            passed = [r.request_id for r in self.scheduler.running if r.request_id not in self._stays]
            for name in passed:  # else the state would not last
                self.scheduler.finish_requests(name, RequestStatus.FINISHED_ABORTED)
        return spent

    def _step(self) -> tuple[int, int]:
        scheduler = self.scheduler
        start = thread_time_ns()
        output = scheduler.schedule()
        scheduling, processing = thread_time_ns() - start, 0
        names = list(output.num_scheduled_tokens)
        self.scheduled = len(names)
        due = [[] if scheduler.requests[name].is_prefill_chunk else [7] for name in names]
        index = {name: place for place, name in enumerate(names)}
        self._in_flight.append((output, ModelRunnerOutput(names, index, due)))
        if len(self._in_flight) >= self._depth:
            done = self._in_flight.popleft()
            start = thread_time_ns()
            scheduler.update_from_output(*done)
            processing = thread_time_ns() - start
        return scheduling, processing

    def _add(self, endless: bool = False) -> str:
        request = self._load.request(self._count, endless)
        self._count += 1
        self.scheduler.add_request(request)
        return request.request_id

    def _hold_blocks(self) -> None:
        pool = self.scheduler.kv_cache_manager.block_pool
        more = pool.get_num_free_blocks() - self._free
        if more > 0:
            self._taken += pool.get_new_blocks(more)
        elif more < 0:
            pool.free_blocks(self._taken[more:])
            del self._taken[more:]


def _parts_of(case: Case, parts: SchedulerParts, overlap: bool) -> SchedulerParts:
    config = copy.copy(parts.vllm_config)
    config.scheduler_config = copy.copy(config.scheduler_config)
    config.cache_config = copy.copy(config.cache_config)
    config.scheduler_config.max_num_seqs = case.seats
    config.scheduler_config.max_num_batched_tokens = case.budget
    config.scheduler_config.async_scheduling = overlap
    config.cache_config.enable_prefix_caching = case.caching
    kv = replace(parts.kv_cache_config, num_blocks=case.blocks)
    return replace(parts, vllm_config=config, kv_cache_config=kv)


def _teach(strategy: Any) -> None:
    """Lengths as the load has them, as after a while of serving."""
    draw = Random(1)
    for number in range(2_000):
        lengths = draw.randrange(100, 4_000), draw.randrange(*OUTPUTS)
        strategy.observe(FinishedRequest(f"t{number}", *lengths, DECLARED))
