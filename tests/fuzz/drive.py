"""Plays a case's operations on a bench and writes down what an operator and a client could see."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import vllm
from vllm.v1.core.sched.interface import PauseState
from vllm.v1.core.sched.request_queue import SchedulingPolicy
from vllm.v1.request import Request, RequestStatus

from bidkv.adapters.shared.control import write_control
from fuzz.bench import Bench, Grammar, compiling
from fuzz.cases import Case, Op
from fuzz.known import Fault, standstill, watch
from fuzz.model import prompt_of

SKIPS_FIRST = vllm.__version__.startswith("0.26.")
"""Whether those that were skipped once are looked at before all others, as in vLLM 0.26."""
LORAS_OF_RUNNING = not vllm.__version__.startswith(("0.26.", "0.32."))
"""Whether a running request holds its LoRA slot in steps that give it no tokens, as from vLLM 0.33 on."""


class StuckError(AssertionError):
    """Requests are left and nothing ends any more."""


@dataclass
class Pass:
    """In one step these started before `waiter`, which had joined before them and could have been looked at."""

    step: int
    waiter: str
    before: int  # how many had passed it in earlier steps
    passers: list[str]
    bound: int | None  # how many the strategy that decides lets pass; None: any number


@dataclass
class Trace:
    """What happened. Steps have their scheduled tokens in order, by request."""

    steps: list[list[tuple[str, int]]] = field(default_factory=list)
    passes: list[Pass] = field(default_factory=list)
    stalled: int = 0  # steps in which a running request stood still
    refused: int | None = None  # the first step in which memory was refused to anybody, or taken
    delivered: dict[str, list[int]] = field(default_factory=dict)
    ended: dict[str, str] = field(default_factory=dict)
    problems: list[tuple[str, str]] = field(default_factory=list)  # (oracle, what) seen on the way
    failed_loads: int = 0
    preemptions: dict[str, int] = field(default_factory=dict)  # vLLM's own count of each request
    records: list[dict[str, Any]] = field(default_factory=list)  # bidkv's of those that left
    free_blocks: int = 0
    alive: int = 0  # requests that somebody keeps
    error: BaseException | None = None
    faults: list[Fault] = field(default_factory=list)  # of vLLM's own


class Driver:
    """One run of a case. `bounds(strategy, admission_params)` is how many may pass: 0 in arrival order, None for any."""

    def __init__(
        self,
        case: Case,
        bench: Bench,
        control: Path | None,
        bounds: Callable[[str, dict[str, Any]], int | None],
        limit: int,
    ):
        self.case, self.bench, self.limit = case, bench, limit
        self.trace = Trace()
        self._control, self._bounds = control, bounds
        self._strategy, self._params = case.strategy, case.admission_params
        self._killed = case.kill_switch
        self._ops = list(case.ops)
        self._grammars: dict[int, list[tuple[Any, int]]] = {}
        self._joined: dict[str, int] = {}  # of those that never started
        self._places: dict[str, int] = {}  # of all
        self._passed: dict[tuple[str, int], int] = {}  # by request and how often it had been preempted
        self._everybody: list[weakref.ref[Request]] = []
        self._priorities: dict[str, int] = {}
        self._step = 0
        self.trace.faults = watch(bench)
        self._watch_memory()

    # -- the run -------------------------------------------------------------------------------

    def run(self) -> Trace:
        try:
            self._run()
        except Exception as error:
            self.trace.error = error
        self._sum_up()
        return self.trace

    def _run(self) -> None:
        scheduler, bench = self.bench.scheduler, self.bench
        last = max(op.at for op in self._ops)
        while self._step <= last or self._busy():
            if self._step > last + 1 and scheduler.pause_state != PauseState.UNPAUSED:
                scheduler.set_pause_state(PauseState.UNPAUSED)
            if self._step > self.limit:
                self.trace.faults += standstill(scheduler)
                counts = scheduler.get_request_counts()
                raise StuckError(f"(running, waiting) {counts} after {self._step} steps")
            late = self._operate()
            ready = {name for name in self._waiters() if not self._blocked(name)}
            skipped = self._skipped()
            output = bench.schedule()
            self._observe(output, ready, skipped)
            for op in late:
                scheduler.finish_requests([op.name], RequestStatus.FINISHED_ABORTED)
            bench.settle(output)
            self._step += 1
        bench.finish()
        bench.settle(bench.schedule())  # as an engine does, which has to say who finished
        bench.finish()

    def _busy(self) -> bool:
        scheduler, connector = self.bench.scheduler, self.bench.connector
        if scheduler.pause_state != PauseState.UNPAUSED:
            return True
        return bool(
            scheduler.has_unfinished_requests()
            or scheduler.requests
            or any(output.num_scheduled_tokens for output, _ in self.bench.in_flight)
            or (connector is not None and connector.busy)
        )

    def _operate(self) -> list[Op]:
        """Does what comes before this step; returns the aborts that come in it."""
        late = []
        for grammar, kind in self._grammars.pop(self._step, ()):
            grammar.grammar = Grammar() if kind > 0 else ValueError("bad grammar")
        while self._ops and self._ops[0].at <= self._step:
            op = self._ops.pop(0)
            if op.kind == "abort" and op.late:
                late.append(op)
            else:
                getattr(self, f"_do_{op.kind}")(op)
        return late

    # -- operations ----------------------------------------------------------------------------

    def _do_add(self, op: Op) -> None:
        facts = {"max_tokens": op.declared, "true_output_tokens": op.output} if self.case.facts else None
        request = self.bench.request(
            op.name,
            prompt_of(op.name, op.prompt, op.prefix),
            op.output,
            arrival=self.bench.time + 1e-4 * len(self._priorities) - op.jitter,
            lora=op.lora,
            priority=op.priority,
            resumable=op.resumable,
            facts=facts,
        )
        if op.grammar:
            request.structured_output_request = compiling()
            request.status = RequestStatus.WAITING_FOR_STRUCTURED_OUTPUT_GRAMMAR
            at = self._step + abs(op.grammar)
            self._grammars.setdefault(at, []).append((request.structured_output_request, op.grammar))
        self._joined[op.name] = self._places[op.name] = len(self._priorities)
        self._priorities[op.name] = op.priority
        self._everybody.append(weakref.ref(request))
        self.bench.scheduler.add_request(request)

    def _do_chunk(self, op: Op) -> None:
        if op.name not in self.bench.scheduler.requests:
            return
        prompt = prompt_of(f"{op.name}{op.at}", op.prompt, 0)
        update = self.bench.request(op.name, prompt, op.output, arrival=self.bench.time, resumable=True)
        self.bench.scheduler.add_request(update)

    def _do_end(self, op: Op) -> None:
        if op.name in self.bench.scheduler.requests:
            self.bench.scheduler.add_request(self.bench.request(op.name, [5], 1, arrival=self.bench.time))

    def _do_abort(self, op: Op) -> None:
        self.bench.scheduler.finish_requests([op.name], RequestStatus.FINISHED_ABORTED)

    def _do_reset(self, op: Op) -> None:
        try:
            self.bench.scheduler.reset_prefix_cache(reset_running_requests=op.value)
        except RuntimeError as error:
            if "remote KV transfer" not in str(error):  # vLLM says that it cannot do that
                raise

    def _do_pause(self, op: Op) -> None:
        self.bench.scheduler.set_pause_state(PauseState[op.value])

    def _do_kill(self, op: Op) -> None:
        self._killed = op.value
        if self._control is not None:
            write_control(self._control, {"kill_switch": op.value})

    def _do_switch(self, op: Op) -> None:
        self._strategy, self._params, self._killed = op.value, {}, False
        if self._control is not None:
            write_control(self._control, {"strategy": op.value})

    # -- what is seen --------------------------------------------------------------------------

    def _watch_memory(self) -> None:
        """Notes the first step in which memory was refused, by vLLM or by the policy. A gate's own reckoning counts only
        where vLLM would say the same of that request: it may have stopped at it before it came to that."""
        manager, trace = self.bench.scheduler.kv_cache_manager, self.trace
        allocate = manager.allocate_slots

        def watched(*args: Any, **kwargs: Any) -> Any:
            blocks = allocate(*args, **kwargs)
            if blocks is None and trace.refused is None:
                trace.refused = self._step
            return blocks

        manager.allocate_slots = watched
        gate = getattr(self.bench.scheduler, "_bidkv_gate", None)
        if gate is not None:
            asks, fits = gate._open, gate._fits

            def watched_word(*args: Any, **kwargs: Any) -> bool:
                opens = asks(*args, **kwargs)
                if not opens and trace.refused is None:
                    trace.refused = self._step
                return opens

            def watched_reckoning(request: Request) -> bool:
                verdict = fits(request)
                if not verdict and trace.refused is None and refuses(self.bench.scheduler, request):
                    trace.refused = self._step
                return verdict

            gate._open, gate._fits = watched_word, watched_reckoning

    def _waiters(self) -> dict[str, int]:
        """Who never started, and who was preempted, with their places in the order of joining."""
        preempted = {
            request.request_id: self._places[request.request_id]
            for request in self.bench.scheduler.requests.values()
            if request.status == RequestStatus.PREEMPTED
        }
        return {
            name: self._joined[name] for name in self._joined if name in self.bench.scheduler.requests
        } | preempted

    def _blocked(self, name: str) -> bool:
        """Whether vLLM would skip the request before it looks for memory, as far as that is known before the step."""
        request = self.bench.scheduler.requests[name]
        if getattr(request, "num_stale_output_tokens", 0):
            return True
        structured = request.structured_output_request
        return structured is not None and not isinstance(structured.grammar, Grammar)

    def _skipped(self) -> set[str]:
        """Those that vLLM 0.26 looks at first."""
        return {r.request_id for r in self.bench.scheduler.skipped_waiting} if SKIPS_FIRST else set()

    def _observe(self, output: Any, ready: set[str], skipped: set[str]) -> None:
        scheduler, trace = self.bench.scheduler, self.trace
        scheduled = list(output.num_scheduled_tokens.items())
        trace.steps.append(scheduled)
        remote = RequestStatus.WAITING_FOR_REMOTE_KVS
        starts = [name for name, _ in scheduled if name in self._joined]
        starts += [
            name
            for name in self._joined
            if name in scheduler.requests and scheduler.requests[name].status == remote
        ]
        joined = {name: self._joined.pop(name) for name in dict.fromkeys(starts)}
        for name in [n for n in self._joined if n not in scheduler.requests]:
            del self._joined[name]
        bound = 0 if self._killed else self._bounds(self._strategy, self._params)
        for waiter, place in self._waiters().items() if joined else ():
            passers = [n for n, later in joined.items() if later > place and n not in skipped]
            if not passers or waiter not in ready or self._excused(waiter, passers, output):
                continue
            key = waiter, scheduler.requests[waiter].num_preemptions
            before = self._passed.get(key, 0)
            trace.passes.append(Pass(self._step, waiter, before, passers, bound))
            self._passed[key] = before + len(passers)
        self._count_stalls(output, set(starts))
        self._check_counts()

    def _excused(self, waiter: str, passers: list[str], output: Any) -> bool:
        """Whether vLLM itself skipped the request in this step: the connector did not know, or no LoRA slot was free."""
        scheduler, connector = self.bench.scheduler, self.bench.connector
        if connector is not None and waiter in connector.unknown:
            return True
        lora = scheduler.requests[waiter].lora_request
        if lora is None or not self.case.engine.loras:
            return False
        holders = {
            r.lora_request.lora_int_id
            for r in scheduler.running
            if r.lora_request
            and (LORAS_OF_RUNNING or r.request_id in output.num_scheduled_tokens)
            and r.request_id not in passers
        }
        return len(holders) >= self.case.engine.loras and lora.lora_int_id not in holders

    def _count_stalls(self, output: Any, starts: set[str]) -> None:
        scheduler = self.bench.scheduler
        full = sum(output.num_scheduled_tokens.values()) >= scheduler.max_num_scheduled_tokens
        aligned = self.case.engine.layout == "mamba-align"  # chunks of whole blocks, or none
        if full or aligned or scheduler.pause_state == PauseState.PAUSED_ALL:
            return
        for request in scheduler.running:
            if request.request_id in output.num_scheduled_tokens:
                continue
            left = request.num_tokens_with_spec + request.num_output_placeholders
            placed = request.num_output_placeholders
            over = placed and request.num_computed_tokens + 2 - placed >= (
                request.num_prompt_tokens + request.max_tokens
            )
            if left > request.num_computed_tokens and not over and not self._throttled(request):
                self.trace.stalled += 1
                return

    def _throttled(self, request: Request) -> bool:
        return self.bench.scheduler.current_step < request.next_decode_eligible_step

    def _check_counts(self) -> None:
        """Whoever waits by its own status is in a queue, once."""
        scheduler = self.bench.scheduler
        running, waiting = scheduler.get_request_counts()
        live = [r for r in scheduler.requests.values() if not r.is_finished()]
        self.trace.preemptions |= {r.request_id: r.num_preemptions for r in live if r.num_preemptions}
        if self.trace.preemptions and self.trace.refused is None:
            self.trace.refused = self._step
        runs = sum(r.status == RequestStatus.RUNNING for r in live)
        if (running, waiting) != (runs, len(live) - runs):
            said = f"step {self._step}: vLLM counts {running} running and {waiting} waiting, of {len(live)} {runs} run"
            self.trace.problems.append(("queue_lengths", said))
        if scheduler.policy != SchedulingPolicy.FCFS:
            self.trace.problems.append(("policy", f"step {self._step}: {scheduler.policy} is left"))
        if any(r.priority != self._priorities[r.request_id] for r in live):
            self.trace.problems.append(("priority", f"step {self._step}: a request has another priority"))

    # -- the end -------------------------------------------------------------------------------

    def _sum_up(self) -> None:
        trace, bench = self.trace, self.bench
        trace.delivered, trace.ended = bench.delivered, bench.ended
        trace.failed_loads = len(bench.connector.failed) if bench.connector is not None else 0
        trace.records = bench.records
        trace.free_blocks = bench.scheduler.kv_cache_manager.block_pool.get_num_free_blocks()
        if trace.error is None:
            trace.alive = alive(self._everybody)


class RoomError(Exception):
    """vLLM found room, and is about to take it."""


def refuses(scheduler: Any, request: Request) -> bool:
    """Whether vLLM has no room for one that holds nothing yet, by its own word; whatever a connector has of it.
    Nothing is taken. Of a prompt that may come in chunks that need not fit as a whole, the smallest is tried."""
    manager, settings = scheduler.kv_cache_manager, scheduler.scheduler_config
    if request.num_computed_tokens:
        return False
    blocks, cached, *_ = manager.get_computed_blocks(request)
    elsewhere = {0} if scheduler.connector is None else {0, max(0, request.num_tokens - 1 - cached)}
    coordinator = manager.coordinator

    def takes(*args: Any, **kwargs: Any) -> None:
        raise RoomError

    instead = {"allocate_new_computed_blocks": takes, "allocate_new_blocks": takes}
    instead["remove_skipped_blocks"] = lambda *args, **kwargs: None
    vars(coordinator).update(instead)
    try:
        for external in elsewhere:
            type(manager).allocate_slots(
                manager,
                request,
                1 if settings.enable_chunked_prefill else request.num_tokens - cached - external,
                num_new_computed_tokens=cached,
                new_computed_blocks=blocks,
                num_external_computed_tokens=external,
                num_lookahead_tokens=scheduler.num_lookahead_tokens,
                full_sequence_must_fit=scheduler.scheduler_reserve_full_isl,
                has_scheduled_reqs=bool(scheduler.running),
            )
        return True
    except RoomError:
        return False
    finally:
        for name in instead:
            del vars(coordinator)[name]


def alive(everybody: list[weakref.ref[Request]]) -> int:
    """How many requests are still there, after a collection."""
    if any(ref() is not None for ref in everybody):
        gc.collect()
    return sum(ref() is not None for ref in everybody)
