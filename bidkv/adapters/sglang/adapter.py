"""SGLang's scheduler with the choice of victims and the order of admission taken from a strategy.

Every method here that takes `original` wraps the SGLang function of the same name.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from time import perf_counter_ns
from typing import Any

import sglang
from sglang.srt.managers.schedule_batch import FINISH_LENGTH
from sglang.srt.managers.schedule_policy import CLIP_MAX_NEW_TOKENS

from bidkv.adapters.sglang.admission import AdmissionRound
from bidkv.adapters.sglang.layout import TESTED, check_scheduler
from bidkv.adapters.sglang.pool import KVPool
from bidkv.adapters.sglang.requests import SGLangAccount, open_account
from bidkv.adapters.sglang.retraction import Choice, Retraction, victim_event
from bidkv.adapters.shared.control import ControlFile
from bidkv.adapters.shared.layout import is_tested
from bidkv.adapters.shared.session import Session
from bidkv.adapters.shared.settings import AdapterSettings
from bidkv.request import RequestState


class SGLangAdapter:
    """One per scheduler process. A strategy that fails never stops the engine: see `Session`."""

    def __init__(
        self,
        settings: AdapterSettings,
        control: ControlFile | None = None,
        clock: Callable[[], float] = time.time,
    ):
        self._first_settings = settings
        self._clock = clock
        self._session = Session(control, self._facts, self._settings_changed, clock)
        self._accounts: dict[str, SGLangAccount] = {}
        self._admissions = 0
        self._decodes = 0  # steps since the last prefill
        self._retraction: Retraction | None = None  # while `retract_decode` runs
        self._preempted = 0  # since the last step
        self._launched: deque[dict[str, Any]] = deque()
        self._held: list[Any] = []  # who is not shown to SGLang in this admission round
        self._schedule_t, self._schedule_ns = 0.0, 0

    # -- steps ---------------------------------------------------------------------------------

    def get_next_batch_to_run(self, original: Any, scheduler: Any, *args: Any, **kwargs: Any) -> Any:
        if not self._session.running:
            self.bind(scheduler)
        self._session.poll()
        self._schedule_t, start = self._clock(), perf_counter_ns()
        try:
            plan = original(scheduler, *args, **kwargs)
        finally:
            scheduler.waiting_queue.extend(self._held)  # who was not shown to this round
            self._held = []
        self._schedule_ns = perf_counter_ns() - start
        return plan

    def run_batch(self, original: Any, scheduler: Any, batch: Any, *args: Any, **kwargs: Any) -> Any:
        if self._session.running:
            self._launched.append(self._observe(batch))
        return original(scheduler, batch, *args, **kwargs)

    def process_batch_result(
        self, original: Any, scheduler: Any, batch: Any, result: Any, *args: Any, **kwargs: Any
    ) -> Any:
        returned = original(scheduler, batch, result, *args, **kwargs)
        for req in batch.reqs:
            if req.finished():
                self._leave(req)
        record = self._launched.popleft() if self._launched else None
        if record is not None:
            self._session.log.flush()
            self._session.pace.ended(record, self._clock())
            if self._session.steps:
                self._session.steps.finish(record)
        return returned

    # -- arrivals and departures ---------------------------------------------------------------

    def _add_request_to_queue(
        self, original: Any, scheduler: Any, req: Any, is_retracted: bool = False, *args: Any, **kwargs: Any
    ) -> Any:
        returned = original(scheduler, req, is_retracted, *args, **kwargs)
        if not scheduler.waiting_queue or scheduler.waiting_queue[-1] is not req:
            self._leave(req)  # refused: the queue is full, or its priority is not allowed
            return returned
        account = self._accounts.get(req.rid)
        if account is None:
            account = self._accounts[req.rid] = open_account(req, self._clock())
            account.show_to(self._session.running and self._session.strategy.oracle)
            self._session.arrived(account.state)
        elif account.computed and account.preempted_t is None:  # e.g. a pause of the whole engine
            account.evicted(self._clock())
        return returned

    def abort_request(self, original: Any, scheduler: Any, *args: Any, **kwargs: Any) -> Any:
        before = list(scheduler.waiting_queue)
        returned = original(scheduler, *args, **kwargs)
        waiting = {id(req) for req in scheduler.waiting_queue}
        for req in before:
            if id(req) not in waiting:
                self._leave(req)
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
        returned = original(policy, waiting_queue, *args, **kwargs)
        if not self._session.orders_waiting:
            return returned
        keys = {req.rid: self._admission_key(req) for req in waiting_queue}
        if self._session.admission_failed:  # SGLang's own order from now on
            return returned
        waiting_queue.sort(key=lambda req: keys[req.rid])
        admission = self._session.strategy.admission
        if admission.gates or admission.backfill or admission.max_overtaken is not None:
            running = self._running()
            turn = AdmissionRound(
                self._scheduler,
                self._pool,
                self._session,
                running,
                self._refresh,
                self._overtaken,
                CLIP_MAX_NEW_TOKENS,
                self._decodes,
            )
            self._held = turn.arrange(waiting_queue)
        return returned

    def _running(self) -> list[Any]:
        """Who holds KV: with overlapped steps a batch still lists, for one step, those that have finished."""
        batch = self._scheduler.running_batch
        return [] if batch is None else [req for req in batch.reqs if req.rid in self._accounts]

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
            choice = Choice(state, "external", [])
            self._evicted(victim_event(choice, freed, free, self._pool.page_size, self._clock()))
        return returned

    # -- settings ------------------------------------------------------------------------------

    def bind(self, scheduler: Any) -> None:
        """Starts the first run on a scheduler; raises `UnknownLayoutError` if it cannot be counted."""
        check_scheduler(scheduler)
        self._scheduler = scheduler
        self._pool = KVPool(scheduler)
        self._session.open(self._first_settings)

    def close(self) -> None:
        """Ends the current run."""
        self._session.close()

    def _settings_changed(self) -> None:
        for account in self._accounts.values():  # an oracle may see what others may not
            account.show_to(self._session.strategy.oracle)

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
        }

    # -- what is known of requests -------------------------------------------------------------

    def _fixed_length(self, req: Any) -> int | None:
        account = self._accounts.get(req.rid)
        return account.fixed_length if account is not None else None

    def _admission_number(self, req: Any) -> int:
        return self._accounts[req.rid].admitted

    def _overtaken(self, req: Any) -> int:
        return self._accounts[req.rid].overtaken

    def _refresh(self, req: Any) -> RequestState:
        state = self._accounts[req.rid].state
        state.output_tokens = len(req.output_ids)
        return state

    def _admission_key(self, req: Any) -> tuple[Any, ...] | None:
        """Kept from one admission to the next, unless the policy `resorts`; None if it failed."""
        account = self._accounts[req.rid]
        if account.admission_key is None or self._session.strategy.admission.resorts:
            state = self._refresh(req)
            state.computed_tokens = 0
            key = self._session.admission_key(state)
            if key is not None:
                behind = self._session.strategy.admission.preempted_first and account.preempted_t is None
                account.admission_key = (behind, key)
        return account.admission_key

    def _evicted(self, event: dict[str, Any]) -> None:
        self._accounts[event["victim"]].evicted(event["t"])
        self._preempted += 1
        log = self._session.log
        log.preempt({"step": log.counters["steps"], **event})

    def _leave(self, req: Any) -> None:
        account = self._accounts.pop(req.rid, None)
        if account is not None and self._session.running:
            self._session.left(account.record_of(req, self._clock()))

    # -- what a step does ----------------------------------------------------------------------

    def _observe(self, batch: Any) -> dict[str, Any]:
        """Counts the tokens of a step that is about to run; its record, empty if nobody reads it."""
        start = perf_counter_ns()
        session = self._session
        scheduled, prefill = self._count(batch)
        step = session.log.counters["steps"]
        session.log.counters["steps"] += 1
        record: dict[str, Any] = {}
        session.pace.began(record, self._schedule_t)
        if session.steps:
            record |= {"step": step, "t": self._schedule_t, "schedule_us": self._schedule_ns / 1000}
            record |= token_counts(scheduled, prefill) | self._occupancy(batch, bool(prefill))
            session.begin_step(record, record, lambda: {name: tokens for name, _, tokens in scheduled})
        self._preempted = 0
        session.log.counters["observe_ns"] += perf_counter_ns() - start
        return record

    def _count(self, batch: Any) -> tuple[list[tuple[str, int, int]], set[str]]:
        """(id, first position, tokens) of each request in the step, and the ids that prefill."""
        accounts, t = self._accounts, self._schedule_t
        scheduled: list[tuple[str, int, int]] = []
        prefill: set[str] = set()
        if batch.forward_mode.is_extend():
            self._decodes = 0
            decoding = {req.rid for req in batch.decoding_reqs or ()}
            for req, start, tokens in zip(batch.reqs, batch.prefix_lens, batch.extend_lens, strict=True):
                scheduled.append((req.rid, start, tokens))
                if req.rid not in decoding:
                    prefill.add(req.rid)
        else:
            self._decodes += 1
            scheduled = [
                (req.rid, accounts[req.rid].computed, 1) for req in batch.reqs if req.rid in accounts
            ]
        for name, start, tokens in scheduled:
            account = accounts.get(name)
            if account is None:
                continue
            if name in prefill and not account.computed:
                self._admissions += 1
                account.admitted = self._admissions
                account.admission_key = None
                for req in self._scheduler.waiting_queue:
                    passed = accounts.get(req.rid)
                    if passed is not None and passed.state.arrival < account.state.arrival:
                        passed.overtaken += 1
            account.scheduled(start, tokens, t)
            account.computed = start + tokens
        return scheduled, prefill

    def _occupancy(self, batch: Any, admits: bool) -> dict[str, Any]:
        scheduler = self._scheduler
        running = len(batch.reqs) + (len(scheduler.running_batch.reqs) if admits else 0)
        waiting = len(scheduler.waiting_queue)
        seats_free = running < scheduler.max_running_requests
        return {
            "running": running,
            "waiting": waiting,
            "used_blocks": self._pool.used_blocks(),
            "cached_free_blocks": self._pool.evictable_tokens() // self._pool.page_size,
            "preempted": self._preempted,
            # A prompt still being cut into chunks keeps the others waiting for compute, not for memory.
            "hol_blocked": bool(waiting and seats_free and scheduler.chunked_req is None),
        }


def token_counts(scheduled: Sequence[tuple[str, int, int]], prefill: set[str]) -> dict[str, int]:
    """Sums over (id, first position, tokens) of a step; the context of a request is its first position."""
    counts = dict.fromkeys(
        (
            "prefill_tokens",
            "decode_tokens",
            "prefill_reqs",
            "decode_reqs",
            "context_tokens",
            "prefill_context",
        ),
        0,
    )
    for name, start, tokens in scheduled:
        kind = "prefill" if name in prefill else "decode"
        counts[f"{kind}_tokens"] += tokens
        counts[f"{kind}_reqs"] += 1
        counts["context_tokens"] += start
        counts["prefill_context"] += start if kind == "prefill" else 0
    return counts
