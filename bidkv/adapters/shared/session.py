"""The run an engine is in: which strategy decides, where its records go, and what new settings replace."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from bidkv.adapters.shared.clock import steadied
from bidkv.adapters.shared.control import ControlFile
from bidkv.adapters.shared.events import RunLog
from bidkv.adapters.shared.meter import Meter
from bidkv.adapters.shared.pace import Pace
from bidkv.adapters.shared.settings import AdapterSettings
from bidkv.adapters.shared.steps import StepLog
from bidkv.errors import BidValidationError
from bidkv.lengths.estimates import LearnedLengths, learned_by, teach
from bidkv.request import FinishedRequest, PoolState, RequestState
from bidkv.strategies.base import Strategy

COMPLETE = frozenset({"length", "stop"})
"""How a request ends that got its whole output."""


class Session:
    """Owned by an engine's adapter: settings, control file, strategy, records.

    `facts()` describes the engine for `run_start`; its `rank`, if there is one, names this engine among those
    that share their settings. `changed()` is called when other settings hold, `check(strategy)` before, and raises
    where this engine cannot do what the strategy says. Policies are told the time that `now()` gives.
    A strategy that fails never stops the engine: the engine chooses instead and the run is degraded.
    """

    log: RunLog
    strategy: Strategy

    def __init__(
        self,
        control: ControlFile | None,
        facts: Callable[[], Mapping[str, Any]],
        changed: Callable[[], None],
        clock: Callable[[], float] = time.time,
        run_log: type[RunLog] = RunLog,
        step_log: Callable[[str], StepLog] = StepLog,
        meter: Meter | None = None,
        check: Callable[[Strategy], None] | None = None,
        now: Callable[[], float] | None = None,
    ):
        self.clock, self.now = clock, now or clock
        self.running = False  # no log and no strategy before `open`
        self.steps: StepLog | None = None
        self.admission_failed = False
        self._key_length: int | None = None  # of all keys of a policy: they are compared
        self.pool = PoolState()
        self.pace = Pace(self.pool)
        self._control = control
        self._facts, self._changed, self._check = facts, changed, check
        self._run_log, self._step_log, self._meter = run_log, step_log, meter
        self._learned: LearnedLengths | None = None  # by the strategies of this run_id
        self._added: list[str] = []  # since the last step's record
        self._added_t: list[float] = []  # when
        self._finished: list[str] = []

    @property
    def settings(self) -> AdapterSettings:
        return self.log.settings

    # -- settings ------------------------------------------------------------------------------

    def open(self, settings: AdapterSettings) -> None:
        """Starts the first run; raises on a strategy that cannot be built or a file that cannot be opened."""
        self._install(settings)

    def poll(self) -> None:
        """Takes over what is new in the control file, and ends what had an `until`. Settings that cannot be used
        change nothing."""
        if self._control is not None:
            try:
                self._control.check_folder()
                settings = self._control.update(self.settings)
                if settings is not None:
                    self._install(_on_loan(settings))
            except Exception as error:  # also what a third party's constructor raises
                self.log.control_error(error)
        until = self.settings.until
        if until is not None and not self.settings.kill_switch and self.clock() >= until:
            self._install(replace(self.settings, kill_switch=True))

    def close(self) -> None:
        """Ends the current run."""
        steps, self.steps = self.steps, None
        if steps:
            steps.close()  # before the end is written: who waits for that reads the steps, too
        if self.running:
            self.log.end(step_records=steps.finished if steps else 0)

    def _install(self, settings: AdapterSettings) -> None:
        """Starts a new run, or only turns the kill switch if nothing else changed; a later `until` alone is no news."""
        switch = {"kill_switch": settings.kill_switch, "until": settings.until}
        if self.running and replace(self.settings, **switch) == settings:
            if settings == replace(self.settings, until=settings.until) != self.settings:
                self.log.settings = settings
                return
            self.log.kill_switch(settings)
        else:
            strategy, facts = settings.build(), self._facts()
            if self._check is not None:
                self._check(strategy)
            own = settings.of_rank(facts.get("rank"))
            steps = self._step_log(own.steps_path) if own.steps_path else None
            log = self._run_log(own, self.clock, self._meter)
            self.close()
            self._hand_over(settings, strategy)
            log.settings = settings
            log.start(strategy, facts)
            self.pool.capacity_tokens = facts["num_blocks"] * facts["block_size"]
            self.pool.max_running = facts["max_num_seqs"]
            self.pool.prefix_caching = facts["prefix_caching"]
            self.pool.host_memory = facts.get("host_memory", False)
            strategy.bind(self.pool)
            self.log, self.steps, self.strategy, self.running = log, steps, strategy, True
            self.admission_failed, self._key_length = False, None
            self._added, self._finished, self._added_t = [], [], []
        self._changed()

    def _hand_over(self, settings: AdapterSettings, strategy: Strategy) -> None:
        """Lengths that were learned are kept within a `run_id`, also by strategies that learn none, and so is the pace of
        the engine. The runs of a benchmark, which have one each, start with nothing."""
        if not self.running or settings.run_id != self.settings.run_id:
            self._learned = None
            self.pace.restart()
            return
        self._learned = learned_by(self.strategy.admission, self.strategy.victim) or self._learned
        if self._learned is not None:
            teach(self._learned, strategy.admission, strategy.victim)

    # -- admission -----------------------------------------------------------------------------

    @property
    def orders_waiting(self) -> bool:
        """Whether the strategy's admission decides: not with the kill switch on, not after it failed."""
        return self.running and not (self.admission_failed or self.settings.kill_switch)

    def admission_key(self, state: RequestState) -> tuple[float, ...] | None:
        """The policy's key of a waiting request, or None if it failed; the engine's order holds from then on."""
        admission = self.strategy.admission
        try:
            key = tuple(map(float, admission.key(state, self.now())))
            if any(map(math.isnan, key)):
                raise BidValidationError(f"{admission.name}: key {key} is not a number")
            if self._key_length not in (None, len(key)):
                raise BidValidationError(
                    f"{admission.name}: key {key} has {len(key)} numbers, an earlier one {self._key_length}"
                )
            self._key_length = len(key)
            return key
        except Exception as error:  # a third party's code; the engine must go on
            self._admission_error(error)
            return None

    def admits(self, state: RequestState, running: Sequence[RequestState]) -> bool:
        """Whether the policy lets a request start that fits; yes if it failed."""
        self.pool.now = self.now()
        try:
            return _yes_or_no("admits", self.strategy.admission.admits(state, running, self.pool))
        except Exception as error:  # a third party's code; the engine must go on
            self._admission_error(error)
            return True

    def reserve(self, running: Sequence[RequestState]) -> float:
        """KV tokens that the policy wants left free by whoever starts; none if it failed."""
        try:
            tokens = float(self.strategy.admission.reserve(running, self.pool))
            if not math.isfinite(tokens):
                raise BidValidationError(f"reserve: {tokens} is no number of tokens")
            return tokens
        except Exception as error:  # a third party's code; the engine must go on
            self._admission_error(error)
            return -math.inf

    def passes_alone(self, steps: int, running: int) -> bool:
        """Whether who passes may start `steps` after the last step with a prompt, while so many run; yes if the policy
        failed."""
        self.pool.running = running
        try:
            return _yes_or_no("passes_alone", self.strategy.admission.passes_alone(steps))
        except Exception as error:  # a third party's code; the engine must go on
            self._admission_error(error)
            return True

    def _admission_error(self, error: Exception) -> None:
        self.admission_failed = True
        self.log.strategy_error(error)

    # -- what happened -------------------------------------------------------------------------

    def arrived(self, state: RequestState) -> None:
        """The scheduler is given a request it did not have; it will ask for its key right after."""
        if not self.running:
            return
        self.log.counters["arrivals"] += 1
        if self.steps is not None and self.settings.log_schedule:
            self._added.append(state.request_id)
            self._added_t.append(self.now())
        try:
            self.strategy.admission.arrived(state, self.now())
        except Exception as error:  # a third party's code; the engine must go on
            self._admission_error(error)

    def left(self, record: Mapping[str, Any]) -> None:
        """A request ended; `record` is its account's."""
        self.log.request(record)
        if self.steps is not None and self.settings.log_schedule:
            self._finished.append(record["id"])
        try:
            if record["reason"] in COMPLETE:
                self.strategy.observe(finished_request(record))
            self.strategy.forget(record["id"])
        except Exception as error:  # a third party's code; the engine must go on
            self._admission_error(error)

    def begin_step(self, key: Any, record: dict[str, Any], scheduled: Callable[[], dict[str, int]]) -> None:
        """Opens the record of a step; `scheduled()` gives its tokens by request id if anybody asks."""
        if self.settings.log_schedule:
            record["scheduled"] = scheduled()
            record["processed"] = self.steps.finished
            record["added"], record["finished"] = self._added, self._finished
            record["added_t"] = self._added_t
            self._added, self._finished, self._added_t = [], [], []
        self.steps.begin(key, record)


def finished_request(record: Mapping[str, Any]) -> FinishedRequest:
    """What policies may learn from, out of a `request` event."""
    return FinishedRequest(
        request_id=record["id"],
        prompt_tokens=record["prompt"],
        output_tokens=record["output"],
        max_tokens=record["max_tokens"],
        preemptions=record["preemptions"],
        recomputed_tokens=record["recomputed"],
        preempted_seconds=record["preempted_s"],
        restored_tokens=record["cached_resume"] + record["restored_resume"],
        arrival=record["arrival_t"],
        finished=record["finish_t"],
    )


def _on_loan(settings: AdapterSettings) -> AdapterSettings:
    """Whoever wrote `until` read it off the wall clock. Was that put forward since this engine started, the loan would
    last longer by as much; was it put back, it ends too early, which harms nobody."""
    until = settings.until
    return settings if until is None else replace(settings, until=min(until, steadied(until)))


def _yes_or_no(what: str, answer: Any) -> bool:
    """What a policy returned. A forgotten `return` would keep everybody waiting."""
    if answer not in (True, False):
        raise BidValidationError(f"{what}: must return True or False, got {answer!r}")
    return bool(answer)
