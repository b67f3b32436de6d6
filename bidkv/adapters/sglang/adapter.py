"""SGLang's scheduler with the choice of victims and the order of admission taken from a strategy.

Every method here that takes `original` wraps the SGLang function of the same name.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from time import perf_counter_ns
from typing import Any

import sglang
from sglang.srt.managers.schedule_batch import FINISH_LENGTH

from bidkv.adapters.sglang.admission import AdmissionRound
from bidkv.adapters.sglang.eviction import check_followed
from bidkv.adapters.sglang.layout import (
    TESTED,
    check_flags,
    check_scheduler,
    low_priority_first,
    rank_name,
    release_arguments,
    tp_rank,
)
from bidkv.adapters.sglang.order import QueueOrder
from bidkv.adapters.sglang.places import Places
from bidkv.adapters.sglang.pool import KVPool
from bidkv.adapters.sglang.ranks import Ranks, Tick
from bidkv.adapters.sglang.reclaim import FirstInLine
from bidkv.adapters.sglang.recorder import Recorder, recorded_facts
from bidkv.adapters.sglang.requests import SGLangAccount, open_account
from bidkv.adapters.sglang.retraction import Choice, Retraction, victim_event
from bidkv.adapters.sglang.rounds import LoopRounds
from bidkv.adapters.sglang.stall import Stall
from bidkv.adapters.sglang.steps import StepCounter, occupancy, token_counts
from bidkv.adapters.shared.clock import steady_time
from bidkv.adapters.shared.control import ControlFile
from bidkv.adapters.shared.events import RunLog
from bidkv.adapters.shared.facts import FactsReader
from bidkv.adapters.shared.layout import is_tested
from bidkv.adapters.shared.recording.engine import Recording
from bidkv.adapters.shared.recording.place import RecordingPlace
from bidkv.adapters.shared.rules import check_no_cache_seen
from bidkv.adapters.shared.session import Session
from bidkv.adapters.shared.settings import AdapterSettings
from bidkv.adapters.shared.steps import StepLog
from bidkv.admission.engine_order import EngineOrder
from bidkv.request import RequestState
from bidkv.strategies.base import Strategy

FACTS = "sampling_params.custom_params['bidkv']"


class SGLangAdapter:
    """One per scheduler process. A strategy that fails never stops the engine: see `Session`. `record` says where what the
    engine does is recorded."""

    def __init__(
        self,
        settings: AdapterSettings,
        control: ControlFile | None = None,
        clock: Callable[[], float] = steady_time,
        record: RecordingPlace | None = None,
    ):
        self._record_to, self._recorder, self._own_clock = record, None, clock
        self._ranks = Ranks(settings, control, clock, self._check)
        self._clock = self._ranks.now
        self._session = Session(
            self._ranks,
            self._facts,
            self._settings_changed,
            self._clock,
            self._run_log,
            self._step_log,
            check=self._check_strategy,
        )
        self._reader = FactsReader(self._session, FACTS)
        self._accounts: dict[str, SGLangAccount] = {}
        self._places = Places()
        self._order = QueueOrder(self._places)
        self._steps = StepCounter(self._accounts, self._places.start)
        self._stall = Stall()
        self._turn: AdmissionRound | None = None  # while SGLang admits
        self._rounds = 0
        self._retraction: Retraction | None = None  # while `retract_decode` runs
        self._gives_way: str | None = None  # for whom, while passers are evicted
        self._preempted = 0  # since the last step
        self._launched: deque[dict[str, Any]] = deque()
        self._loop = LoopRounds()
        self._schedule_t, self._schedule_ns = 0.0, 0

    # -- steps ---------------------------------------------------------------------------------

    def _pull_raw_reqs(self, original: Any, receiver: Any) -> Any:
        pulled = original(receiver)
        if pulled is not None and receiver.server_args.tp_size > 1:  # this is the first rank
            session = self._session
            pulled = [self._ranks.say(session.settings if session.running else None), *pulled]
        return pulled

    def recv_requests(self, original: Any, receiver: Any, *args: Any, **kwargs: Any) -> Any:
        received = original(receiver, *args, **kwargs)
        if receiver.server_args.tp_size > 1:
            for item in received:
                if isinstance(item, Tick):
                    self._ranks.hear(item)
            received = [item for item in received if not isinstance(item, Tick)]
        if self._recorder is not None and self._scheduler._engine_paused:
            self._record(Recorder.paused)
        return received

    def get_next_batch_to_run(self, original: Any, scheduler: Any, *args: Any, **kwargs: Any) -> Any:
        if not self._session.running:
            self.bind(scheduler)
        self._session.poll()
        self._loop.begin()
        self._stall.step(self._session, self._steps.decodes)
        self._schedule_t, start = self._clock(), perf_counter_ns()
        self._record(Recorder.begin)
        self._make_room(scheduler)
        try:
            plan = original(scheduler, *args, **kwargs)
            if self._turn is not None and self._turn.stalled:
                self._stall.begin(self._turn)
        finally:
            self._turn = None
        self._record(Recorder.scheduled, plan, self._preempted)
        self._schedule_ns = perf_counter_ns() - start
        return plan

    def run_batch(self, original: Any, scheduler: Any, batch: Any, *args: Any, **kwargs: Any) -> Any:
        if self._session.running:
            self._launched.append(self._observe(batch))
        return original(scheduler, batch, *args, **kwargs)

    def process_batch_result(
        self, original: Any, scheduler: Any, batch: Any, result: Any, *args: Any, **kwargs: Any
    ) -> Any:
        record = self._launched.popleft() if self._launched else None
        returned = original(scheduler, batch, result, *args, **kwargs)
        if record is not None:
            self._record(Recorder.processed)
        for req in batch.reqs:
            if req.finished():
                self._leave(req)
        if record is not None:
            self._session.log.flush()
            end = self._clock()
            self._session.pace.ended(record, end)
            if self._session.steps:
                self._session.steps.finish(record, end)
        return returned

    # -- arrivals and departures ---------------------------------------------------------------

    def _add_request_to_queue(
        self, original: Any, scheduler: Any, req: Any, is_retracted: bool = False, *args: Any, **kwargs: Any
    ) -> Any:
        if not self._session.running:  # requests come before the first step
            self.bind(scheduler)
        # A full queue may throw out another one, of less priority.
        limited = getattr(scheduler, "max_queued_requests", None) is not None
        before = list(scheduler.waiting_queue) if limited else []
        returned = original(scheduler, req, is_retracted, *args, **kwargs)
        if before:
            self._gone(before, scheduler.waiting_queue)
        if not scheduler.waiting_queue or scheduler.waiting_queue[-1] is not req:
            self._leave(req)  # refused: the queue is full, or its priority is not allowed
            return returned
        self._places.join(req.rid)
        self._order.entered(req)
        account = self._accounts.get(req.rid)
        if account is None:
            sign = 1 if low_priority_first(scheduler) else -1
            account = self._accounts[req.rid] = open_account(req, self._clock(), self._reader, sign)
            account.show_to(self._session.running and self._session.strategy.oracle)
            self._session.arrived(account.state)
            if self._logs_schedule:
                self._loop.arrived()
            self._record(Recorder.arrived, req, account)
            if self._session.running and self._may_pass(scheduler.waiting_queue):
                self._stall.end()
        elif account.computed and account.preempted_t is None:  # e.g. a pause of the whole engine
            self._record(Recorder.retracted, req.rid, account.computed)
            account.evicted(self._clock())
            self._places[req.rid].key = None
        return returned

    def abort_request(self, original: Any, scheduler: Any, *args: Any, **kwargs: Any) -> Any:
        before = list(scheduler.waiting_queue)
        returned = original(scheduler, *args, **kwargs)
        self._gone(before, scheduler.waiting_queue)
        self._stall.end()
        return returned

    def process_pending_chunked_abort(self, original: Any, scheduler: Any, *args: Any, **kwargs: Any) -> Any:
        req = scheduler._pending_chunked_abort_req
        returned = original(scheduler, *args, **kwargs)
        if req is not None and req.finished():
            self._leave(req)
        return returned

    # -- exact output lengths ------------------------------------------------------------------

    def update_finish_state(self, original: Any, req: Any, *args: Any, **kwargs: Any) -> Any:
        length = self._fixed_length(req)
        if length is not None and len(req.output_ids) >= length and not req.finished() and not req.to_finish:
            req.to_finish = FINISH_LENGTH(length=length)
            req.finished_len = length
        return original(req, *args, **kwargs)

    def _check_token_based_finish(self, original: Any, req: Any, *args: Any, **kwargs: Any) -> bool:
        return self._fixed_length(req) is None and original(req, *args, **kwargs)

    def next_output_finishes_by_length(self, original: Any, req: Any) -> bool:
        length = self._fixed_length(req)
        return original(req) or (length is not None and len(req.output_ids) + 1 >= length)

    # -- the two axes --------------------------------------------------------------------------

    def calc_priority(self, original: Any, policy: Any, waiting_queue: Any, *args: Any, **kwargs: Any) -> Any:
        returned = self._ordered(original, policy, waiting_queue, *args, **kwargs)
        self._record(Recorder.looks, waiting_queue)
        return returned

    def _ordered(self, original: Any, policy: Any, waiting_queue: Any, *args: Any, **kwargs: Any) -> Any:
        admission = self._session.strategy.admission if self._session.running else None
        if not self._session.orders_waiting or isinstance(admission, EngineOrder):
            self._order.give_back(waiting_queue)
        returned = original(policy, waiting_queue, *args, **kwargs)
        if not self._session.orders_waiting:
            return returned
        if not isinstance(admission, EngineOrder):
            if admission.resorts:
                self._forget_keys()
            if not self._order.arrange(waiting_queue, self._admission_key):
                self._order.give_back(waiting_queue)
                return original(policy, waiting_queue, *args, **kwargs)
        if admission.max_overtaken is not None and waiting_queue:
            due = self._places.most_overtaken()
            if due is not None and self._places.overtaken(due) >= admission.max_overtaken:
                self._order.first(waiting_queue, due.name)
        self._rounds += 1
        self._turn = AdmissionRound(
            self._session,
            self._places,
            self._refresh,
            self._first,
            self._rounds,
            self._steps.decodes,
            mixed=self._scheduler.is_mixed_chunk,
        )
        return returned

    def init_next_round_input(self, original: Any, req: Any, *args: Any, **kwargs: Any) -> Any:
        # Without a tree to look into it is the next chunk of a prompt.
        if self._turn is not None and (args or kwargs) and not self._turn.looks_up(req):
            return None
        return original(req, *args, **kwargs)

    def add_one_req(self, original: Any, adder: Any, req: Any, *args: Any, **kwargs: Any) -> Any:
        asked = False

        def add() -> Any:
            nonlocal asked
            asked, verdict = True, original(adder, req, *args, **kwargs)
            self._record(Recorder.offered, adder, req, verdict)
            return verdict

        if self._turn is None or req.rid not in self._places:
            return add()
        verdict = self._turn.offer(adder, req, add)
        if not asked:
            self._record(Recorder.offered, adder, req, None)
        return verdict

    def retract_decode(self, original: Any, batch: Any, *args: Any, **kwargs: Any) -> Any:
        if not self._session.running:
            return original(batch, *args, **kwargs)
        states = [self._refresh(req) for req in sorted(batch.reqs, key=self._admission_number)]
        self._retraction = Retraction(batch, self._pool, states, self._session.log.records, self._clock)
        try:
            retracted, ratio, aborted = original(batch, *args, **kwargs)
            events = self._retraction.events(retracted)
        finally:
            self._retraction = None
        for event in events:
            self._evicted(event)
        for req in aborted:
            self._leave(req)
        return retracted, ratio, aborted

    def _get_decode_retraction_order(self, original: Any, reqs: Any, *args: Any, **kwargs: Any) -> list[int]:
        engine_order = original(reqs, *args, **kwargs)
        retraction = self._retraction
        if retraction is None or retraction.batch.reqs is not reqs or self._session.settings.kill_switch:
            return engine_order
        start = perf_counter_ns()
        try:
            retraction.pick(self._session.strategy.victim, self._session.pool)
        except Exception as error:  # a third party's code; SGLang chooses instead
            self._session.log.strategy_error(error)
        order = retraction.order(engine_order)
        retraction.hook_ns += perf_counter_ns() - start
        return order

    def release_req(self, original: Any, batch: Any, idx: int, *args: Any, **kwargs: Any) -> Any:
        if not self._session.running:
            return original(batch, idx, *args, **kwargs)
        req = batch.reqs[idx]
        free, reclaimable = self._pool.free_tokens(), self._pool.reclaimable_tokens()
        state = self._refresh(req)
        if self._retraction is None:  # priority scheduling makes room for a better request
            self._pool.measure({req.rid: state}, [req])
        returned = original(batch, idx, *args, **kwargs)
        freed = self._pool.reclaimable_tokens() - reclaimable
        if self._retraction is not None:
            otherwise = "kill_switch" if self._session.settings.kill_switch else "engine"
            self._retraction.released(req, freed, free, otherwise)
        else:
            choice = Choice(state, "reclaim" if self._gives_way else "external", [])
            event = victim_event(choice, freed, free, self._pool.page_size, self._clock())
            self._evicted(event | {"requester": self._gives_way})
        return returned

    def _running_states(self) -> dict[str, RequestState]:
        reqs = self._scheduler.running_batch.reqs
        return {req.rid: self._refresh(req) for req in reqs if req.rid in self._accounts}

    def _make_room(self, scheduler: Any) -> None:
        """Evicts those that passed the first in line, if it is time that they give it their memory back.

        As SGLang does where it retracts, and at the same point of a round, so that the first in line can start in it.
        """
        batch, session = scheduler.running_batch, self._session
        if batch is None or not session.orders_waiting or not session.strategy.admission.reclaims:
            return
        victims = self._first.passers_to_evict(
            batch, self._running_states, session.strategy.admission, self._clock()
        )
        if not victims:
            return
        self._gives_way = self._first.name
        try:
            left, going = len(batch.reqs), {id(req) for req in victims}
            for req in victims:
                left -= 1
                batch.release_req(batch.reqs.index(req), left, *release_arguments(scheduler))
            batch.filter_batch(keep_indices=[i for i, r in enumerate(batch.reqs) if id(r) not in going])
        finally:
            self._gives_way = None
        for req in victims:
            scheduler._add_request_to_queue(req, is_retracted=True)
        self._stall.end()
        batch.batch_is_full = False

    def _may_pass(self, queue: list[Any]) -> bool:
        """Whether one that has just come may be among those that are looked at. With many before it there is time."""
        return len(queue) <= 1 + self._session.strategy.admission.backfill

    # -- settings ------------------------------------------------------------------------------

    def bind(self, scheduler: Any) -> None:
        """Starts the first run on a scheduler; raises `UnknownLayoutError` if it cannot be counted."""
        check_scheduler(scheduler)
        self._scheduler = scheduler
        self._pool = KVPool(scheduler)
        self._first = FirstInLine(self._places, self._pool)
        self._check(self._ranks.first)
        self._recorder = self._make_recorder()
        self._session.open(self._ranks.first)

    def close(self) -> None:
        """Ends the current run, and the recording."""
        self._session.close()
        self._record(Recorder.close)

    def _check(self, settings: AdapterSettings) -> None:
        """Raises `BidKVError` on settings that this engine cannot take."""
        if not settings.kill_switch:
            check_flags(self._scheduler, settings.build())

    def _check_strategy(self, strategy: Strategy) -> None:
        """Raises `BidValidationError` on one that goes by the cache in a way that this engine's does not."""
        check_no_cache_seen(strategy.admission)
        check_followed(self._scheduler.server_args, strategy.retention)

    def _run_log(self, settings: AdapterSettings, *args: Any) -> RunLog:
        """Of the ranks that decide alike one keeps records."""
        return RunLog(
            settings if tp_rank(self._scheduler) == 0 else replace(settings, events_path=None), *args
        )

    def _step_log(self, path: str) -> StepLog:
        return StepLog(path if tp_rank(self._scheduler) == 0 else os.devnull)

    def _make_recorder(self) -> Recorder | None:
        """Of the ranks that decide alike one records."""
        if self._record_to is None or tp_rank(self._scheduler) != 0:
            return None
        self._record_to.prepare()
        head = self._facts() | recorded_facts(self._scheduler, self._pool)
        recording = Recording(self._record_to, head, self._own_clock())
        return Recorder(self._scheduler, self._pool, recording, self._own_clock)

    def _record(self, what: Callable[..., None], *facts: Any) -> None:
        """Tells the recorder, if there is one. What fails there ends the recording; the engine must go on."""
        if self._recorder is None:
            return
        try:
            what(self._recorder, *facts)
        except Exception as error:
            self._recorder.fail(error)
            self._recorder = None

    @property
    def _logs_schedule(self) -> bool:
        session = self._session
        return session.running and session.steps is not None and session.settings.log_schedule

    def _settings_changed(self) -> None:
        if not self._session.log.counters["arrivals"]:  # a new run
            self._loop.forget()
        self._record(Recorder.decides, self._session.settings.decides())
        for account in self._accounts.values():  # an oracle may see what others may not
            account.show_to(self._session.strategy.oracle)
        self._forget_keys()
        self._stall.end()

    def _forget_keys(self) -> None:
        for name in self._accounts:
            if name in self._places:
                self._places[name].key = None
        self._order.disturbed()

    def _facts(self) -> dict[str, Any]:
        return {
            "engine": "sglang",
            "engine_version": sglang.__version__,
            "engine_tested": is_tested(sglang.__version__, TESTED),
            "scheduler": "async" if self._scheduler.enable_overlap else "sync",
            "block_size": self._pool.page_size,
            "num_blocks": self._pool.num_blocks,
            "max_num_seqs": self._scheduler.max_running_requests,
            "prefix_caching": self._pool.prefix_caching,
            "host_memory": bool(getattr(self._scheduler.server_args, "enable_hierarchical_cache", False)),
            "rank": rank_name(self._scheduler),
        }

    # -- what is known of requests -------------------------------------------------------------

    def _fixed_length(self, req: Any) -> int | None:
        account = self._accounts.get(req.rid)
        return account.fixed_length if account is not None else None

    def _admission_number(self, req: Any) -> int:
        return self._accounts[req.rid].admitted

    def _refresh(self, req: Any) -> RequestState:
        state = self._accounts[req.rid].state
        state.output_tokens = len(req.output_ids)
        return state

    def _admission_key(self, req: Any) -> tuple[Any, ...] | None:
        """Kept until the request is evicted, or other settings hold; None if the policy failed."""
        place = self._places[req.rid]
        if place.key is None:
            state = self._refresh(req)
            state.computed_tokens = 0
            key = self._session.admission_key(state)
            if key is not None:
                policy, preempted = self._session.strategy.admission, self._accounts[req.rid].preempted_t
                in_front = preempted is not None and not (policy.reclaims and place.passed)
                place.key = (policy.preempted_first and not in_front, key)
        return place.key

    def _evicted(self, event: dict[str, Any]) -> None:
        name = event["victim"]
        self._record(Recorder.retracted, name, self._accounts[name].computed)
        self._accounts[name].evicted(event["t"])
        self._places[name].key = None
        self._preempted += 1
        log = self._session.log
        log.preempt({"step": log.counters["steps"], **event})

    def _gone(self, before: list[Any], after: list[Any]) -> None:
        """Those leave that SGLang took out of its queue."""
        waiting = {id(req) for req in after}
        for req in before:
            if id(req) not in waiting:
                self._leave(req)

    def _leave(self, req: Any) -> None:
        account = self._accounts.pop(req.rid, None)
        self._places.leave(req.rid)
        if account is not None and self._session.running:
            record = account.record_of(req, self._clock())
            self._session.left(record)
            self._record(Recorder.ended, req, record)

    # -- what a step does ----------------------------------------------------------------------

    def _observe(self, batch: Any) -> dict[str, Any]:
        """Counts the tokens of a step that is about to run; its record, empty if nobody reads it."""
        start = perf_counter_ns()
        session = self._session
        scheduled, prefill = self._steps.launched(batch, self._schedule_t)
        step = session.log.counters["steps"]
        session.log.counters["steps"] += 1
        record: dict[str, Any] = {}
        session.pace.began(record, self._schedule_t)
        if session.steps:
            record |= {"step": step, "t": self._schedule_t, "schedule_us": self._schedule_ns / 1000}
            record |= token_counts(scheduled, prefill) | {"preempted": self._preempted}
            record |= occupancy(self._scheduler, self._pool, batch, bool(prefill))
            if self._logs_schedule:
                record |= self._loop.launched()
            session.begin_step(record, record, lambda: {name: tokens for name, _, tokens in scheduled})
        self._record(Recorder.launched, batch, scheduled, prefill, self._steps.context, self._preempted)
        self._preempted = 0
        session.log.counters["observe_ns"] += perf_counter_ns() - start
        return record
