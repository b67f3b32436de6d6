"""vLLM's scheduler with the choice of the victim and the order of admission taken from a strategy."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import takewhile
from time import perf_counter_ns
from typing import Any

import vllm
import vllm.envs as envs
from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.core.sched.request_queue import FCFSRequestQueue, RequestQueue
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.request import Request, RequestStatus

from bidkv.adapters.shared.accounting import RequestAccount
from bidkv.adapters.shared.clock import Moment, steady_time
from bidkv.adapters.shared.events import RunLog
from bidkv.adapters.shared.facts import FactsReader
from bidkv.adapters.shared.layout import UnknownLayoutError, is_tested
from bidkv.adapters.shared.recording.engine import Recording
from bidkv.adapters.shared.session import Session
from bidkv.adapters.shared.steps import StepLog
from bidkv.adapters.shared.tickets import Ticket, Tickets
from bidkv.adapters.shared.victims import describe_victim, pick_victim
from bidkv.adapters.shared.waiting import LineRules, WaitingLine
from bidkv.adapters.vllm.choices.gate import Gate
from bidkv.adapters.vllm.choices.mark import Mark
from bidkv.adapters.vllm.choices.queues import AdmissionQueue
from bidkv.adapters.vllm.choices.reclaim import Reclaim
from bidkv.adapters.vllm.choices.states import Snapshot, light_states
from bidkv.adapters.vllm.memory.blocks import KVBlocks
from bidkv.adapters.vllm.memory.demand import Demand
from bidkv.adapters.vllm.memory.host import HostMemory
from bidkv.adapters.vllm.memory.looks import Looks
from bidkv.adapters.vllm.memory.retention import KeptBlocks
from bidkv.adapters.vllm.records.accounting import client_id, open_account, request_record, update_account
from bidkv.adapters.vllm.records.counting import Counting, prompt_tokens
from bidkv.adapters.vllm.records.logs import log_as_vllm
from bidkv.adapters.vllm.records.metrics import make_meter
from bidkv.adapters.vllm.records.recorder import Recorder, recorded_facts
from bidkv.adapters.vllm.records.steps import occupancy
from bidkv.adapters.vllm.records.transfers import ended_transfers, started_transfers
from bidkv.adapters.vllm.server.configure import adapter_config, rank_facts, recording_place
from bidkv.adapters.vllm.server.layout import TESTED, check_class, check_followed, check_scheduler
from bidkv.request import RequestState
from bidkv.victim.base import eligible_victims
from bidkv.victim.lifo import Lifo


class BidKVSchedulerMixin:
    """Goes in front of a vLLM v1 scheduler class. All its own names start with `_bidkv_`.

    Settings come from `additional_config["bidkv"]`, or from its `control_file`, which is read
    again when it changes. A strategy that fails never stops the engine: see `Session`.
    """

    _bidkv_engine = "vllm"
    _bidkv_resorts = 32  # of those who wait have their key asked for again in a step, beside who may be next
    _bidkv_clock: Callable[[], float] = staticmethod(steady_time)
    _bidkv_environment: Mapping[str, str] = os.environ
    _bidkv_run_log = RunLog
    _bidkv_step_log = StepLog

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        check_class(Scheduler, vllm.__version__)
        super().__init__(*args, **kwargs)
        check_scheduler(self, vllm.__version__)
        check_followed(self)
        log_as_vllm()
        settings, control = adapter_config(self.vllm_config.additional_config)
        self._bidkv_randomized_ids = not getattr(envs, "VLLM_DISABLE_REQUEST_ID_RANDOMIZATION", False)
        self._bidkv_accounts: dict[str, RequestAccount] = {}
        self._bidkv_counting = Counting(self, self._bidkv_accounts)
        self._bidkv_now = Moment(lambda: self._bidkv_clock())
        self._bidkv_tickets: Tickets[Request] = Tickets(
            clock=self._bidkv_now, started_one=self._bidkv_started
        )
        self._bidkv_line: WaitingLine[Request] | None = None  # None while vLLM orders who waits
        looks = Looks()
        self._bidkv_demand = Demand(self, looks)
        self._bidkv_blocks = KVBlocks(self.kv_cache_manager, self._bidkv_demand)
        self._bidkv_reclaim = Reclaim(self, self._bidkv_tickets, self._bidkv_blocks, self._bidkv_demand)
        self._bidkv_mark = Mark(self)
        self._bidkv_pending: dict[str, Any] | None = None  # event of a preemption that did not happen yet
        self._bidkv_unlike_vllm = False  # vLLM would preempt another one itself
        self._bidkv_refused: Request | None = None  # a waiting one that did not fit in this step
        self._bidkv_held_back = False  # by the policy, though it would have fitted
        self._bidkv_preempted = 0  # in this step
        self._bidkv_resorted = 0  # keys asked for again in it

        self._bidkv_blocks.keep_count()
        self.kv_cache_manager.allocate_slots = self._bidkv_allocator(self.kv_cache_manager.allocate_slots)
        connector = getattr(self, "connector", None)
        size = self._bidkv_blocks.block_size
        self._bidkv_host = HostMemory(connector, self._bidkv_account, size) if connector is not None else None
        self._bidkv_session = Session(
            control,
            facts=self._bidkv_facts,
            changed=self._bidkv_settings_changed,
            clock=lambda: self._bidkv_clock(),
            now=self._bidkv_now,
            run_log=self._bidkv_run_log,
            step_log=self._bidkv_step_log,
            meter=make_meter(self.vllm_config),
            check=lambda strategy: self._bidkv_kept.check(strategy),
        )
        self._bidkv_kept = KeptBlocks(
            self.kv_cache_manager, self._bidkv_session, self._bidkv_now, self._bidkv_host
        )
        self._bidkv_facts_reader = FactsReader(self._bidkv_session, 'extra_args["bidkv"]')
        self._bidkv_gate = Gate(
            self,
            self._bidkv_blocks,
            self._bidkv_demand,
            looks,
            self._bidkv_session,
            lambda requests: light_states(requests, self._bidkv_accounts),
            lambda name: self._bidkv_accounts[name].input_t,
        )
        if self._bidkv_host is not None:
            self._bidkv_gate.unknown = self._bidkv_host.unknown
            self._bidkv_demand.elsewhere = self._bidkv_host.told
        self._bidkv_recorder = self._bidkv_make_recorder()
        self._bidkv_session.open(settings)

    # -- vLLM's methods ------------------------------------------------------------------------

    def add_request(self, request: Request) -> None:
        self._bidkv_now.begin()
        self._bidkv_session.poll()
        if request.request_id not in self.requests:  # else the next input of a streaming session
            account = self._bidkv_account(request)
            self._bidkv_session.arrived(account.state)
            self._bidkv_kept.arrived(request, account)
            self._bidkv_tickets.issue(request.request_id, request)
            self._bidkv_record(Recorder.arrived, request, account)
        super().add_request(request)

    def _update_request_as_session(self, session: Request, update: Any, *args: Any, **kwargs: Any) -> None:
        super()._update_request_as_session(session, update, *args, **kwargs)
        account = self._bidkv_accounts.get(session.request_id)
        if account is not None:  # else it was aborted while its blocks are still being sent
            update_account(account, session, self._bidkv_facts_reader, self.max_model_len)

    def _enqueue_waiting_request(self, request: Request) -> None:
        super()._enqueue_waiting_request(request)
        name = request.request_id
        if self._bidkv_tickets.get(name) is None and request in self.waiting:  # a session's next input
            self._bidkv_tickets.issue(name, request)
            self._bidkv_record(Recorder.awaits_input, request)

    def schedule(self, *args: Any, **kwargs: Any) -> Any:
        session, t, start = self._bidkv_session, self._bidkv_now.begin(), perf_counter_ns()
        session.poll()
        self._bidkv_resorted = 0
        if session.admission_failed:
            self._bidkv_order_waiting()
        elif self._bidkv_line is not None and session.strategy.admission.resorts:
            self._bidkv_resorted = self._bidkv_line.resort(self._bidkv_resorts)
        session.log.counters["steps"] += 1
        self._bidkv_refused, self._bidkv_held_back, self._bidkv_preempted = None, False, 0
        self._bidkv_gate.begin()
        self._bidkv_make_room()
        try:
            output = super().schedule(*args, **kwargs)
        finally:
            if self._bidkv_withdraw() is not None and not self._bidkv_reclaim.rests:  # vLLM broke off instead
                session.log.unexecuted()
        self._bidkv_count_starts(output)
        self._bidkv_observe(output, t, start)
        if self._bidkv_recorder is not None:
            first, held_back = self._bidkv_first(), self._bidkv_held_back
            self._bidkv_record(Recorder.scheduled, output, t, first, held_back, self._bidkv_preempted)
        if output.num_scheduled_tokens:
            prompts = prompt_tokens(output)
            session.pace.began(output, t, prompts)
            self._bidkv_gate.stepped(prompts)
        return output

    def update_from_output(
        self, scheduler_output: Any, model_runner_output: Any, *args: Any, **kwargs: Any
    ) -> Any:
        session = self._bidkv_session
        self._bidkv_now.begin()
        if session.steps and self._bidkv_logs_transfers:
            ended = ended_transfers(model_runner_output, self._bidkv_randomized_ids)
            session.steps.note(scheduler_output, ended)
        if self._bidkv_host is not None:
            self._bidkv_host.ended(model_runner_output, session.pool)
        outputs = super().update_from_output(scheduler_output, model_runner_output, *args, **kwargs)
        end = self._bidkv_now.begin()
        session.pace.ended(scheduler_output, end)
        session.log.flush()
        if session.steps:
            session.steps.finish(scheduler_output, end)
        self._bidkv_record(Recorder.processed, scheduler_output, end)
        return outputs

    def _preempt_request(self, request: Request, *args: Any, **kwargs: Any) -> None:
        start = perf_counter_ns()
        event, unlike_vllm = self._bidkv_pending, self._bidkv_unlike_vllm
        marked = self._bidkv_withdraw()
        account = self._bidkv_account(request)
        state = self._bidkv_refresh(request, account.state)
        if event is None:  # not the scheduler's doing, e.g. a reset of the prefix cache
            event = {"source": "external", "requester": None, "candidates": [], "stalled": []}
            event |= {"select_ns": 0, "hook_ns": 0, "score": None}
        elif marked is not None and marked is not request:
            event |= {"source": "engine", "score": None}
            problem = f"vLLM preempted {request.request_id!r}, marked was {marked.request_id!r}"
            self._bidkv_session.log.strategy_error(UnknownLayoutError(problem))
        t = self._bidkv_clock()
        event |= {"step": self._bidkv_step, "t": t, **describe_victim(state)}
        self._bidkv_counting.stopped(request)
        self._bidkv_record(Recorder.preempted, request, state.request_id, t)
        if unlike_vllm:
            self._bidkv_blocks.forget_uncomputed(request.request_id, request.num_computed_tokens)
        self._bidkv_kept.preempted(request)
        self._bidkv_tickets.preempted(request.request_id, request, self._bidkv_goes_in_front(request, event))
        free = self._bidkv_blocks.free()
        spent = perf_counter_ns() - start

        super()._preempt_request(request, *args, **kwargs)

        start = perf_counter_ns()
        account.preempted(t)
        self._bidkv_preempted += 1
        event["free_blocks_before"] = free
        event["blocks_freed"] = self._bidkv_blocks.free() - free
        event["hook_ns"] += spent + perf_counter_ns() - start
        self._bidkv_session.log.preempt(event)

    def _free_request(self, request: Request, *args: Any, **kwargs: Any) -> Any:
        self._bidkv_counting.stopped(request)
        account = self._bidkv_account(request)
        self._bidkv_kept.ended(request, account)
        result = super()._free_request(request, *args, **kwargs)
        record = request_record(account, request, self._bidkv_clock())
        self._bidkv_session.left(record)
        self._bidkv_record(Recorder.ended, request, record)
        self._bidkv_accounts.pop(request.request_id)
        self._bidkv_tickets.left(request.request_id)
        if self._bidkv_host is not None:
            self._bidkv_host.left(request.request_id)
        return result

    def reset_prefix_cache(self, *args: Any, **kwargs: Any) -> bool:
        self._bidkv_session.poll()  # an idle engine does not schedule: this ends one run and starts the next
        done = super().reset_prefix_cache(*args, **kwargs)
        if done:
            self._bidkv_kept.cleared()
        return done

    def shutdown(self) -> None:
        self._bidkv_session.close()
        self._bidkv_record(Recorder.close)
        super().shutdown()

    # -- the choice ----------------------------------------------------------------------------

    def _bidkv_allocator(self, stock: Callable[..., Any]) -> Callable[..., Any]:
        """`allocate_slots`: when it fails for a running request, the victim is chosen; a waiting one must
        also be let in. Every running request passes here in every step, so this looks up next to nothing."""
        running, reclaim, demand = RequestStatus.RUNNING, self._bidkv_reclaim, self._bidkv_demand
        counts = (
            not self.scheduler_reserve_full_isl
        )  # then what is left of the budget says what a start takes

        # Arguments are named here, since passing on any number of them costs as much as the rest.
        def allocate(
            request: Request, num_new_tokens: int, *, num_lookahead_tokens: int = 0, **more: Any
        ) -> Any:
            if request.status is not running:
                more["num_lookahead_tokens"] = num_lookahead_tokens
                return self._bidkv_let_in(stock, request, num_new_tokens, **more)
            if reclaim.victims:
                victim = reclaim.next(request)
                if victim is not None:
                    self._bidkv_give_back(victim)
                    return None
            if more:
                blocks = stock(request, num_new_tokens, num_lookahead_tokens=num_lookahead_tokens, **more)
            else:
                blocks = stock(request, num_new_tokens, num_lookahead_tokens=num_lookahead_tokens)
            if blocks is None:
                self._bidkv_withdraw()
                self._bidkv_choose(request, num_new_tokens)
            elif counts:
                demand.scheduled += num_new_tokens
            return blocks

        return allocate

    def _bidkv_let_in(
        self, allocate: Callable[..., Any], request: Request, new_tokens: int, **call: Any
    ) -> Any:
        line = self._bidkv_line
        ticket = self._bidkv_tickets.get(request.request_id)
        passes = line is not None and ticket is not None and line.passed is not None
        if passes or self._bidkv_may_start(request, new_tokens, call):
            if passes and self._bidkv_session.strategy.admission.reclaims:
                self._bidkv_demand.keep(line.passed.item)
            blocks = allocate(request, new_tokens, **call)
            self._bidkv_demand.changed()
            if blocks is not None:
                self._bidkv_demand.scheduled += new_tokens
                hits = call.get("new_computed_blocks")
                if self._bidkv_blocks.shared is not None and hits is not None:
                    self._bidkv_blocks.shared.joined(request.request_id, len(hits.blocks[0]))
                self._bidkv_kept.started(request, call.get("num_new_computed_tokens", 0))
                return blocks
        else:
            self._bidkv_held_back = True
        if passes:
            self._bidkv_gate.refused(ticket)
        self._bidkv_refused = request
        return None

    def _bidkv_may_start(self, request: Request, new_tokens: int, call: dict[str, Any]) -> bool:
        """Whether the policy lets it, if vLLM does. Who holds memory already goes on."""
        name = request.request_id
        if (
            request.num_computed_tokens
            or name == self._bidkv_reclaim.granted
            or self._bidkv_gate.cleared(name)
        ):
            return True
        admission = self._bidkv_session.strategy.admission
        if not (self.running and self._bidkv_session.orders_waiting and admission.gates):
            return True
        return self._bidkv_gate.open_to(request, self._bidkv_demand.of_call(request, new_tokens, call))

    # -- the first in line ---------------------------------------------------------------------

    def _bidkv_make_room(self) -> None:
        """Where the first in line does not fit beside those that passed it, they give back what they took."""
        reclaim, session = self._bidkv_reclaim, self._bidkv_session
        reclaim.begin()
        if not (self._bidkv_tickets.passers and self._bidkv_line and session.orders_waiting):
            return
        head = self._bidkv_line.head() if session.strategy.admission.reclaims else None
        if head is not None and not self._bidkv_awaits_blocks():
            gate, policy = self._bidkv_gate, session.strategy.admission
            need, now = gate.need_of(head.name), self._bidkv_now()
            reclaim.plan(head, need, policy, now, gate.ready, self._bidkv_can_be_freed)
            self._bidkv_demand.changed()  # those that run are given theirs first

    def _bidkv_may_pass(self, first: Ticket[Request]) -> bool:
        """Nobody passes while those that passed are about to give way: it would be the next of them."""
        return not self._bidkv_reclaim.rests and self._bidkv_gate.may_pass(first)

    def _bidkv_give_back(self, victim: Request) -> None:
        self._bidkv_withdraw()
        self._bidkv_mark.set(victim)
        head = client_id(self._bidkv_reclaim.head, self._bidkv_randomized_ids)
        event = {"source": "reclaim", "requester": head, "candidates": [], "stalled": []}
        self._bidkv_pending = event | {"select_ns": 0, "hook_ns": 0, "score": None}
        self._bidkv_unlike_vllm = True

    def _bidkv_goes_in_front(self, request: Request, event: dict[str, Any] | None) -> bool:
        """Whether a preempted request waits in front, as in vLLM. Not one that gives way to the first in line, nor one
        that passed where a large one waits, or a first that is passed no more: it would stand in front of that again."""
        session, line = self._bidkv_session, self._bidkv_line
        if not session.orders_waiting:
            return True
        admission = session.strategy.admission
        if admission.reclaims and line is not None and request.request_id in self._bidkv_tickets.passers:
            if event is not None and event["source"] == "reclaim":
                return False
            head = line.head()
            if head is not None and head.blocked_t is not None and self._bidkv_gate.passed_long_enough(head):
                return False
            large = admission.large * self._bidkv_blocks.usable
            if any(self._bidkv_demand.most(ticket.item) >= large for ticket in line.window()):
                return False
        return admission.preempted_first

    def _bidkv_awaits_blocks(self) -> bool:
        """Whether a connector is about to free blocks; vLLM then preempts nobody (0.26 knows of no such)."""
        pending = getattr(getattr(self, "connector", None), "has_pending_block_frees", None)
        return pending is not None and pending()

    def _bidkv_can_be_freed(self, request: Request) -> bool:
        """Whether its blocks are free at once when it is preempted: not while a step in flight may write to them."""
        return not self.defer_block_free or request.last_sched_seq <= self.processed_step_seq

    def _bidkv_first(self) -> Request | None:
        """Who is first in line and did not start in this step because it does not fit, or the policy held it back."""
        line = self._bidkv_line
        if line is None:
            return self._bidkv_refused
        head = line.head()
        passed = head is not None and line.passed is head
        return head.item if head is not None and (passed or self._bidkv_refused) else self._bidkv_refused

    def _bidkv_started(self, request: Request) -> None:
        self._bidkv_counting.started(request)
        self._bidkv_record(Recorder.started, request)

    def _bidkv_unsettled(self, output: Any) -> list[Request]:
        """Who started in this step from a queue of vLLM's own, the first one first."""
        tickets = self._bidkv_tickets
        if self._bidkv_line is None:  # starts are at the end of `running`
            return [*takewhile(lambda r: tickets.get(r.request_id) is not None, reversed(self.running))][::-1]
        if not hasattr(self, "skipped_waiting"):  # 0.26 has such a queue
            return []
        names = tickets.waiting_among(output.num_scheduled_tokens.keys())
        return [self.requests[name] for name in sorted(names, key=tickets.number)]

    def _bidkv_count_starts(self, output: Any) -> None:
        if self._bidkv_line is not None:
            self._bidkv_line.settle()
        tickets = self._bidkv_tickets
        if len(tickets):
            for request in self._bidkv_unsettled(output):
                tickets.started(request.request_id)
        granted = self._bidkv_reclaim.granted
        if granted is not None and tickets.get(granted) is None:
            self._bidkv_reclaim.granted = None

    def _bidkv_choose(self, requester: Request, new_tokens: int) -> None:
        start = perf_counter_ns()
        session, running = self._bidkv_session, self.running
        if self._bidkv_awaits_blocks():
            return  # vLLM waits for those
        index = running.index(requester)
        seen = Snapshot(running, self._bidkv_accounts, self._bidkv_blocks)
        states, places = seen.states, range(len(running))
        if self._bidkv_host is not None:
            for request, state in zip(running, states, strict=True):
                state.host_tokens = self._bidkv_host.held(request.request_id)
        short = self._bidkv_demand.shortfall(requester, new_tokens, self.num_lookahead_tokens)
        short *= self._bidkv_blocks.block_size
        session.pool.shortfall_tokens = short
        event: dict[str, Any] = {"requester": states[index].request_id, "score": None, "select_ns": 0}
        chosen = running[-1]
        if session.settings.kill_switch:
            event["source"] = "kill_switch"
        else:
            policy = session.strategy.victim
            try:
                eligible = eligible_victims(states, index, policy)
                left_out = index if len(eligible) < len(states) else None
                places = [place for place in range(len(states)) if place != left_out]
                if self.defer_block_free and not isinstance(policy, Lifo):  # which is vLLM's own rule
                    places = self._bidkv_unfenced(places, index, states)
                    eligible = [states[place] for place in places]
                pick = pick_victim(policy, eligible, self._bidkv_now(), short)
                event |= {"source": "strategy", "score": pick.score, "select_ns": pick.select_ns}
                chosen = running[places[pick.place]]
                self._bidkv_mark.set(chosen)
            except Exception as error:  # a third party's code; the engine must go on
                event["source"] = "engine"
                session.log.strategy_error(error)
        # A requester that evicts itself ends the step: all behind it lose their turn.
        event["stalled"] = [s.request_id for s in states[index + 1 :]] if chosen is requester else []
        event["candidates"] = partial(seen.rows, places)
        event["hook_ns"] = perf_counter_ns() - start
        self._bidkv_pending, self._bidkv_unlike_vllm = event, chosen is not running[-1]

    def _bidkv_unfenced(self, places: list[int], index: int, states: Sequence[RequestState]) -> list[int]:
        """Those of `places` whose blocks are free at once; else those from the requester on, which vLLM leaves out of
        this step, so that theirs are free in the next. Nobody in front of it ever is: it is in flight in every step.
        Each preemption costs all behind the requester a step, so that only those count that give at least as much
        memory as the last of them, whom vLLM would take: with small victims there are more such steps."""
        freeable = [place for place in places if self._bidkv_can_be_freed(self.running[place])]
        open_to_all = freeable or [place for place in places if place > index] or [index]
        least = states[open_to_all[-1]].private_blocks or 0
        return [place for place in open_to_all if (states[place].private_blocks or 0) >= least]

    def _bidkv_withdraw(self) -> Request | None:
        """No preemption is pending any more; returns the request that was marked."""
        self._bidkv_pending, self._bidkv_unlike_vllm = None, False
        return self._bidkv_mark.withdraw()

    # -- what is known of requests -------------------------------------------------------------

    @property
    def _bidkv_logs_transfers(self) -> bool:
        return self._bidkv_session.settings.log_schedule and self._bidkv_host is not None

    @property
    def _bidkv_step(self) -> int:
        """Number of the step that was scheduled last, or is being scheduled; -1 before the run's first."""
        return self._bidkv_session.log.counters["steps"] - 1

    def _bidkv_account(self, request: Request) -> RequestAccount:
        account = self._bidkv_accounts.get(request.request_id)
        if account is None:
            name = client_id(request.request_id, self._bidkv_randomized_ids)
            oracle, room = self._bidkv_session.strategy.oracle, self.max_model_len
            account = open_account(request, name, oracle, self._bidkv_facts_reader, room)
            self._bidkv_accounts[request.request_id] = account
        return account

    def _bidkv_refresh(self, request: Request, state: RequestState) -> RequestState:
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

    def _bidkv_facts(self) -> dict[str, Any]:
        return {
            "engine": self._bidkv_engine,
            "engine_version": vllm.__version__,
            "engine_tested": is_tested(vllm.__version__, TESTED),
            "scheduler": "async" if isinstance(self, AsyncScheduler) else "sync",
            "block_size": self._bidkv_blocks.block_size,
            "num_blocks": self._bidkv_blocks.usable,
            "max_num_seqs": self.max_num_running_reqs,
            "prefix_caching": self._bidkv_blocks.prefix_caching,
            "host_memory": self._bidkv_host is not None and not self._bidkv_host.forwards,
            "retention_decides": self._bidkv_kept.may_choose,  # else `lru` does, whatever the strategy says
            "host_eviction": "retention" if self._bidkv_kept.evicts_elsewhere else "engine",
            **rank_facts(self.vllm_config.parallel_config),
        }

    def _bidkv_make_recorder(self) -> Recorder | None:
        place = recording_place(self.vllm_config.additional_config, self._bidkv_environment)
        if place is None:
            return None
        place.prepare()
        head = self._bidkv_facts() | recorded_facts(self)
        recording = Recording(place, head, self._bidkv_clock())
        return Recorder(self, recording, lambda: self._bidkv_clock(), lambda: self._bidkv_gate.unknown)

    def _bidkv_record(self, what: Callable[..., None], *facts: Any) -> None:
        """Tells the recorder, if there is one. What fails there ends the recording; the engine must go on."""
        if self._bidkv_recorder is None:
            return
        try:
            what(self._bidkv_recorder, *facts)
        except Exception as error:
            self._bidkv_recorder.fail(error)
            self._bidkv_recorder = None

    def _bidkv_settings_changed(self) -> None:
        self._bidkv_record(Recorder.decides, self._bidkv_session.settings.decides())
        self._bidkv_counting.choose(read=self._bidkv_session.steps is not None)
        for account in self._bidkv_accounts.values():  # an oracle may see what others may not
            account.show_to(self._bidkv_session.strategy.oracle)
        strategy, killed = self._bidkv_session.strategy, self._bidkv_session.settings.kill_switch
        self._bidkv_kept.choose(None if killed else strategy.retention, strategy.admission.sees_cache)
        strategy.admission.resting = self._bidkv_kept.resting
        self._bidkv_order_waiting()

    def _bidkv_order_waiting(self) -> None:
        """Puts the waiting queue in the order the current settings ask for; tickets stay as they are."""
        session, tickets = self._bidkv_session, self._bidkv_tickets
        if self._bidkv_line is not None:
            self._bidkv_line.close()
        for ticket in tickets.all():  # a load that began while vLLM ordered who waits
            if has_started(ticket.item):
                tickets.started(ticket.name)
        for request in [*self.waiting][::-1]:
            tickets.returned(request.request_id, request)
        waiting = sorted(self.waiting, key=lambda request: tickets.number(request.request_id))
        if session.orders_waiting and session.strategy.admission.name != "fcfs":
            gate, admission = self._bidkv_gate, session.strategy.admission
            self._bidkv_line = line = WaitingLine(
                tickets,
                self._bidkv_admission_key,
                LineRules(admission.preempted_first, admission.backfill, admission.max_overtaken),
                fits=gate.fits,
                may_go_ahead=gate.may_go_ahead,
                may_pass=self._bidkv_may_pass,
                ready=gate.ready,
                runs=has_started,
            )
            self.waiting: RequestQueue = AdmissionQueue(line, tickets, waiting)
        elif self._bidkv_line is not None:
            self._bidkv_line = None
            self.waiting = FCFSRequestQueue(waiting)

    def _bidkv_admission_key(self, request: Request) -> tuple[float, ...]:
        """Whoever has no key waits at the end until the next step, which falls back to FCFS."""
        (state,) = light_states([request], self._bidkv_accounts)
        if self._bidkv_session.strategy.admission.sees_cache:
            state.cached_tokens = self._bidkv_demand.cached_tokens(request, state.cached_tokens)
        key = self._bidkv_session.admission_key(state)
        return (math.inf,) if key is None else key

    # -- what a step did -----------------------------------------------------------------------

    def _bidkv_observe(self, output: Any, t: float, start_ns: int) -> None:
        """Counts the tokens of a step that was just scheduled, and opens its record."""
        end_ns = perf_counter_ns()
        session, scheduled = self._bidkv_session, output.num_scheduled_tokens
        if session.steps:
            record = {"step": self._bidkv_step, "t": t, "schedule_us": (end_ns - start_ns) / 1000}
            record |= self._bidkv_counting.sums(scheduled, t)
            refused = self._bidkv_refused is not None
            record |= occupancy(self, self._bidkv_blocks, refused, self._bidkv_preempted)
            if self._bidkv_logs_transfers:
                record["kv_started"] = started_transfers(output, self._bidkv_randomized_ids)
            if session.settings.log_schedule:
                looked = self._bidkv_gate.looked
                record["looked_at"] = looked.candidates if looked.cut else None
            accounts = self._bidkv_accounts
            session.begin_step(
                output, record, lambda: {accounts[i].state.request_id: n for i, n in scheduled.items()}
            )
        else:
            self._bidkv_counting.step(scheduled, t)
        session.log.counters["observe_ns"] += perf_counter_ns() - end_ns


def has_started(request: Request) -> bool:
    """Whether vLLM took it off the queue for good: it runs, or its KV is being loaded into blocks of its own."""
    return request.status in (RequestStatus.RUNNING, RequestStatus.WAITING_FOR_REMOTE_KVS)


class BidKVScheduler(BidKVSchedulerMixin, Scheduler):
    """For engines without async scheduling, such as vLLM's CPU backend."""


class BidKVAsyncScheduler(BidKVSchedulerMixin, AsyncScheduler):
    """For engines with async scheduling, the default on GPUs; keeps the overlap."""


def create_scheduler(*args: Any, **kwargs: Any) -> Scheduler:
    """The class that fits `vllm_config`; give this function's dotted path as `scheduler_cls`."""
    vllm_config = kwargs["vllm_config"] if "vllm_config" in kwargs else args[0]
    cls = BidKVAsyncScheduler if vllm_config.scheduler_config.async_scheduling else BidKVScheduler
    return cls(*args, **kwargs)
