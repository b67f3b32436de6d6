"""vLLM's scheduler with the choice of the victim and the order of admission taken from a strategy.

How a choice reaches vLLM: its priority branch preempts the running request with the largest
`(priority, arrival_time)` and undoes whatever that request was scheduled in the step. So between a
failed `allocate_slots` and the `_preempt_request` that follows, and only there, `self.policy` says
PRIORITY and the victim carries the largest priority. Without a mark vLLM takes its own choice.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from time import perf_counter_ns
from typing import Any

import vllm
import vllm.envs as envs
from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.core.sched.request_queue import FCFSRequestQueue, RequestQueue, SchedulingPolicy
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.request import Request, RequestStatus

from bidkv.adapters.accounting import RequestAccount
from bidkv.adapters.control import ControlFile, updated_settings
from bidkv.adapters.events import RunLog
from bidkv.adapters.settings import AdapterSettings
from bidkv.adapters.steps import StepLog
from bidkv.adapters.victims import check_victim, describe_candidates, describe_victim, score_of
from bidkv.adapters.vllm.accounting import client_id, request_record, request_state
from bidkv.adapters.vllm.blocks import KVBlocks
from bidkv.adapters.vllm.configure import adapter_config
from bidkv.adapters.vllm.queues import AdmissionQueue
from bidkv.errors import BidKVError, BidValidationError
from bidkv.strategies.base import Strategy, eligible_victims


class BidKVSchedulerMixin:
    """Goes in front of a vLLM v1 scheduler class. All its own names start with `_bidkv_`.

    Settings come from `additional_config["bidkv"]`, or from its `control_file`, which is read
    again when it changes. A strategy that fails never stops the engine: see `RunLog`.
    """

    _bidkv_engine = "vllm"
    _bidkv_clock: Callable[[], float] = staticmethod(time.time)
    _bidkv_run_log = RunLog
    _bidkv_step_log = StepLog

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.policy != SchedulingPolicy.FCFS:
            raise BidValidationError(
                f"bidkv needs vLLM's scheduling policy 'fcfs', got {self.policy.value!r}; "
                "use the strategy 'priority' instead"
            )
        settings, control_file = adapter_config(self.vllm_config.additional_config)
        self._bidkv_control = ControlFile(control_file) if control_file else None
        self._bidkv_blocks = KVBlocks(self.kv_cache_manager, self.kv_cache_config)
        self._bidkv_randomized_ids = not getattr(envs, "VLLM_DISABLE_REQUEST_ID_RANDOMIZATION", False)
        self._bidkv_accounts: dict[str, RequestAccount] = {}
        self._bidkv_step = -1
        self._bidkv_marked: tuple[Request, int] | None = None  # victim, its real priority
        self._bidkv_pending: dict[str, Any] | None = None  # event of a preemption that did not happen yet
        self._bidkv_had_turn: set[str] = set()  # with prefix caching: running requests scheduled in this step
        self._bidkv_admission_failed = False
        self._bidkv_refused = False  # a waiting request did not fit in this step
        self._bidkv_preempted = 0  # in this step
        self._bidkv_added: list[str] = []  # since the last step
        self._bidkv_finished: list[str] = []
        self._bidkv_log: RunLog | None = None
        self._bidkv_steps: StepLog | None = None

        self._bidkv_stock_allocate = self.kv_cache_manager.allocate_slots
        self.kv_cache_manager.allocate_slots = self._bidkv_allocate
        update = self._bidkv_control.poll() if self._bidkv_control else None
        if update is not None:
            settings = updated_settings(settings, update)
        if settings is None:
            raise BidValidationError(f"bidkv: no strategy given and no control file at {control_file}")
        self._bidkv_install(settings, settings.build())

    # -- vLLM's methods ------------------------------------------------------------------------

    def add_request(self, request: Request) -> None:
        self._bidkv_poll()
        super().add_request(request)
        if self._bidkv_steps:
            self._bidkv_added.append(self._bidkv_account(request).state.request_id)

    def schedule(self, *args: Any, **kwargs: Any) -> Any:
        self._bidkv_poll()
        if self._bidkv_admission_failed:
            self._bidkv_order_waiting()
        self._bidkv_step += 1
        self._bidkv_log.counters["steps"] += 1
        self._bidkv_had_turn.clear()
        self._bidkv_refused, self._bidkv_preempted = False, 0
        t, start = self._bidkv_clock(), perf_counter_ns()
        try:
            output = super().schedule(*args, **kwargs)
        finally:
            self._bidkv_withdraw()
        self._bidkv_observe(output, t, start)
        return output

    def update_from_output(self, scheduler_output: Any, *args: Any, **kwargs: Any) -> Any:
        outputs = super().update_from_output(scheduler_output, *args, **kwargs)
        if self._bidkv_steps:
            self._bidkv_steps.finish(scheduler_output)
        return outputs

    def _preempt_request(self, request: Request, *args: Any, **kwargs: Any) -> None:
        start = perf_counter_ns()
        event = self._bidkv_pending
        self._bidkv_withdraw()
        account = self._bidkv_account(request)
        state = account.state
        if event is None or event["source"] != "strategy":
            self._bidkv_refresh(request, state)
        if event is None:  # not the scheduler's doing, e.g. a reset of the prefix cache
            event = {"source": "external", "requester": None, "candidates": [], "stalled": []}
            event |= {"select_ns": 0, "hook_ns": 0, "score": None}
        t = self._bidkv_clock()
        event |= {"step": self._bidkv_step, "t": t, **describe_victim(state)}
        if request.request_id in self._bidkv_had_turn:
            self._bidkv_blocks.forget_uncomputed(request.request_id, request.num_computed_tokens)
        free = self._bidkv_blocks.free()
        spent = perf_counter_ns() - start

        super()._preempt_request(request, *args, **kwargs)

        start = perf_counter_ns()
        account.preempted(t)
        self._bidkv_preempted += 1
        event["free_blocks_before"] = free
        event["blocks_freed"] = self._bidkv_blocks.free() - free
        event["hook_ns"] += spent + perf_counter_ns() - start
        self._bidkv_log.preempt(event)

    def _free_request(self, request: Request, *args: Any, **kwargs: Any) -> Any:
        result = super()._free_request(request, *args, **kwargs)
        account = self._bidkv_account(request)
        self._bidkv_log.request(request_record(account, request, self._bidkv_clock()))
        if self._bidkv_steps:
            self._bidkv_finished.append(account.state.request_id)
        self._bidkv_accounts.pop(request.request_id)
        return result

    def shutdown(self) -> None:
        self._bidkv_close()
        super().shutdown()

    # -- the choice ----------------------------------------------------------------------------

    def _bidkv_allocate(self, request: Request, *args: Any, **kwargs: Any) -> Any:
        """`allocate_slots`; when it fails for a running request, the victim is chosen here."""
        blocks = self._bidkv_stock_allocate(request, *args, **kwargs)
        if request.status != RequestStatus.RUNNING:
            if blocks is None:
                self._bidkv_refused = True
        elif blocks is not None:
            if self._bidkv_blocks.prefix_caching:
                self._bidkv_had_turn.add(request.request_id)
        else:
            self._bidkv_withdraw()
            self._bidkv_choose(request)
        return blocks

    def _bidkv_choose(self, requester: Request) -> None:
        start = perf_counter_ns()
        running = self.running
        index = running.index(requester)
        states = [self._bidkv_refresh(r, self._bidkv_account(r).state) for r in running]
        settings, policy, now = self._bidkv_log.settings, self._bidkv_strategy.victim, self._bidkv_clock()
        event: dict[str, Any] = {"requester": states[index].request_id, "score": None, "select_ns": 0}
        candidates, victim = states, None
        if settings.kill_switch:
            event["source"] = "kill_switch"
        else:
            try:
                candidates = eligible_victims(states, index, policy)
                select_start = perf_counter_ns()
                victim = policy.select(candidates, now)
                event["select_ns"] = perf_counter_ns() - select_start
                check_victim(policy, victim, candidates)
                event["score"] = score_of(policy, victim, now)
                event["source"] = "strategy"
            except Exception as error:  # a third party's code; the engine must go on
                victim, candidates = None, states
                event["source"] = "engine"
                self._bidkv_log.strategy_error(error)
        chosen = running[-1]
        if victim is not None:
            chosen = running[next(i for i, state in enumerate(states) if state is victim)]
            self._bidkv_marked = (chosen, chosen.priority)
            chosen.priority = math.inf
            self.policy = SchedulingPolicy.PRIORITY
        # A requester that evicts itself ends the step: all behind it lose their turn.
        event["stalled"] = [s.request_id for s in states[index + 1 :]] if chosen is requester else []
        event["candidates"] = describe_candidates(candidates) if self._bidkv_log.records else []
        event["hook_ns"] = perf_counter_ns() - start
        self._bidkv_pending = event

    def _bidkv_withdraw(self) -> None:
        """Back to vLLM's own policy and priorities."""
        self.policy = SchedulingPolicy.FCFS
        self._bidkv_pending = None
        if self._bidkv_marked is not None:
            victim, victim.priority = self._bidkv_marked
            self._bidkv_marked = None

    # -- what is known of requests -------------------------------------------------------------

    def _bidkv_account(self, request: Request) -> RequestAccount:
        account = self._bidkv_accounts.get(request.request_id)
        if account is None:
            name = client_id(request.request_id, self._bidkv_randomized_ids)
            state = request_state(request, name, self._bidkv_strategy.victim.oracle)
            account = RequestAccount(state, arrival_t=request.arrival_time)
            self._bidkv_accounts[request.request_id] = account
        return account

    def _bidkv_refresh(self, request: Request, state: Any) -> Any:
        """The request's `RequestState` as of now."""
        total, private = self._bidkv_blocks.held(request.request_id)
        computed = request.num_computed_tokens
        state.computed_tokens = computed
        state.output_tokens = request.num_output_tokens
        state.preemptions = request.num_preemptions
        state.total_blocks, state.private_blocks = total, private
        state.private_tokens = max(0, computed - (total - private) * self._bidkv_blocks.block_size)
        return state

    # -- settings ------------------------------------------------------------------------------

    def _bidkv_poll(self) -> None:
        if self._bidkv_control is None:
            return
        try:
            update = self._bidkv_control.poll()
            if update is None:
                return
            settings = updated_settings(self._bidkv_log.settings, update)
            strategy = settings.build()
            self._bidkv_install(settings, strategy)
        except (BidKVError, OSError) as error:
            self._bidkv_log.control_error(error)

    def _bidkv_install(self, settings: AdapterSettings, strategy: Strategy) -> None:
        """Starts a new run, or only turns the kill switch if nothing else changed."""
        old = self._bidkv_log.settings if self._bidkv_log else None
        if old is not None and {**old.to_dict(), "kill_switch": settings.kill_switch} == settings.to_dict():
            self._bidkv_log.kill_switch(settings)
        else:
            path = settings.steps_path
            steps = self._bidkv_step_log(path, self._bidkv_clock) if path else None
            log = self._bidkv_run_log(settings, self._bidkv_clock)
            self._bidkv_close()
            log.start(strategy, self._bidkv_facts())
            self._bidkv_log, self._bidkv_steps, self._bidkv_strategy = log, steps, strategy
            self._bidkv_step = -1
            self._bidkv_added, self._bidkv_finished = [], []
            for request_id, account in self._bidkv_accounts.items():  # an oracle may see what others may not
                account.state = request_state(
                    self.requests[request_id], account.state.request_id, strategy.victim.oracle
                )
        self._bidkv_order_waiting()

    def _bidkv_order_waiting(self) -> None:
        """Puts the waiting queue in the order the current settings ask for."""
        fcfs = self._bidkv_log.settings.kill_switch or self._bidkv_strategy.admission.name == "fcfs"
        waiting = list(self.waiting)
        if not fcfs and not self._bidkv_admission_failed:
            self.waiting: RequestQueue = AdmissionQueue(self._bidkv_admission_key, waiting)
        elif not isinstance(self.waiting, FCFSRequestQueue):
            front = [r for r in waiting if r.status == RequestStatus.PREEMPTED]
            others = [r for r in waiting if r.status != RequestStatus.PREEMPTED]
            self.waiting = FCFSRequestQueue([*front, *sorted(others, key=lambda r: r.arrival_time)])

    def _bidkv_admission_key(self, request: Request) -> tuple[float, ...]:
        try:
            key = tuple(map(float, self._bidkv_strategy.admission.key(self._bidkv_account(request).state)))
            if any(map(math.isnan, key)):
                raise BidValidationError(f"{self._bidkv_strategy.admission.name}: key {key} is not a number")
            return key
        except Exception as error:  # a third party's code; the next step falls back to FCFS
            self._bidkv_admission_failed = True
            self._bidkv_log.strategy_error(error)
            return (math.inf,)

    def _bidkv_facts(self) -> dict[str, Any]:
        return {
            "engine": self._bidkv_engine,
            "engine_version": vllm.__version__,
            "scheduler": "async" if isinstance(self, AsyncScheduler) else "sync",
            "block_size": self._bidkv_blocks.block_size,
            "num_blocks": self._bidkv_blocks.usable,
            "max_num_seqs": self.max_num_running_reqs,
            "prefix_caching": self._bidkv_blocks.prefix_caching,
        }

    def _bidkv_close(self) -> None:
        if self._bidkv_log is not None:
            self._bidkv_log.end()
        if self._bidkv_steps is not None:
            self._bidkv_steps.close()
        self._bidkv_steps = None

    # -- what a step did -----------------------------------------------------------------------

    def _bidkv_observe(self, output: Any, t: float, start_ns: int) -> None:
        """Counts the tokens of a step that was just scheduled, and opens its record."""
        schedule_end = perf_counter_ns()
        prefill_tokens = decode_tokens = prefill_reqs = decode_reqs = context = prefill_context = 0
        requests, accounts = self.requests, self._bidkv_accounts
        for request_id, tokens in output.num_scheduled_tokens.items():
            request = requests[request_id]
            account = accounts.get(request_id) or self._bidkv_account(request)
            before = request.num_computed_tokens - tokens  # schedule() has added them already
            context += before
            if account.scheduled(before, tokens, t):
                decode_tokens += tokens
                decode_reqs += 1
            else:
                prefill_tokens += tokens
                prefill_reqs += 1
                prefill_context += before
        if self._bidkv_steps:
            blocks = self._bidkv_blocks
            running, waiting = self.get_request_counts()
            seats_free = running < getattr(self, "max_num_active_reqs", self.max_num_running_reqs)
            record = {
                "step": self._bidkv_step,
                "t": t,
                "schedule_us": (schedule_end - start_ns) / 1000,
                "prefill_tokens": prefill_tokens,
                "decode_tokens": decode_tokens,
                "prefill_reqs": prefill_reqs,
                "decode_reqs": decode_reqs,
                "context_tokens": context,
                "prefill_context": prefill_context,
                "running": running,
                "waiting": waiting,
                "used_blocks": blocks.usable - blocks.free(),
                "cached_free_blocks": blocks.cached_free(),
                "preempted": self._bidkv_preempted,
                "hol_blocked": bool(
                    waiting and seats_free and (self._bidkv_refused or self._bidkv_preempted)
                ),
            }
            if self._bidkv_log.settings.log_schedule:
                record["scheduled"] = {
                    accounts[i].state.request_id: n for i, n in output.num_scheduled_tokens.items()
                }
                record["added"], record["finished"] = self._bidkv_added, self._bidkv_finished
            self._bidkv_added, self._bidkv_finished = [], []
            self._bidkv_steps.begin(output, record)
        self._bidkv_log.counters["observe_ns"] += perf_counter_ns() - schedule_end


class BidKVScheduler(BidKVSchedulerMixin, Scheduler):
    """For engines without async scheduling, such as vLLM's CPU backend."""


class BidKVAsyncScheduler(BidKVSchedulerMixin, AsyncScheduler):
    """For engines with async scheduling, the default on GPUs; keeps the overlap."""


def create_scheduler(*args: Any, **kwargs: Any) -> Scheduler:
    """The class that fits `vllm_config`; give this function's dotted path as `scheduler_cls`."""
    vllm_config = kwargs["vllm_config"] if "vllm_config" in kwargs else args[0]
    cls = BidKVAsyncScheduler if vllm_config.scheduler_config.async_scheduling else BidKVScheduler
    return cls(*args, **kwargs)
