"""One call of SGLang's `retract_decode`: ranks the victims and describes what happened."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter_ns
from typing import Any

from bidkv.adapters.sglang.pool import KVPool
from bidkv.adapters.shared.victims import CandidateRow, candidate_rows, pick_victim
from bidkv.request import PoolState, RequestState
from bidkv.utility import compute_utility
from bidkv.victim.base import VictimPolicy
from bidkv.victim.bidkv_radix import radix_disruption


@dataclass(slots=True)
class Choice:
    """Why a request was picked."""

    state: RequestState
    source: str
    candidates: list[CandidateRow]
    score: Any = None
    select_ns: int = 0


class Retraction:
    """Victims of one batch that does not fit, chosen one after another as if each were gone already."""

    def __init__(
        self,
        batch: Any,
        pool: KVPool,
        states: Sequence[RequestState],
        records: bool,
        clock: Callable[[], float] = time.time,
    ):
        """`states` are the batch's requests in admission order."""
        self.batch = batch
        self.hook_ns = 0
        self._pool = pool
        self._records = records
        self._clock = clock
        self._states = {state.request_id: state for state in states}
        self._choices: dict[str, Choice] = {}
        self._events: dict[str, dict[str, Any]] = {}
        start = perf_counter_ns()
        pool.measure(self._states, batch.reqs)
        self.hook_ns += perf_counter_ns() - start

    def pick(self, policy: VictimPolicy, state: PoolState) -> None:
        """Picks victims until the rest fits, by the count that SGLang itself goes by.

        `state` is told what is short before each. What a policy raises passes through; the picks it made
        before stand.
        """
        index = {req.rid: i for i, req in enumerate(self.batch.reqs)}
        alive = list(self._states.values())
        reclaimable = self._pool.reclaimable_tokens()
        short = self._required(alive, index) - reclaimable
        while len(alive) > 1:  # SGLang never retracts the last one
            state.shortfall_tokens = max(0, short)
            victim = self._pick_one(policy, alive, short)
            alive.remove(victim)
            reclaimable += victim.private_blocks * self._pool.page_size
            short = self._required(alive, index) - reclaimable
            if short <= 0:
                break
            self._pool.retire(victim, self._states)

    def order(self, engine_order: Sequence[int]) -> list[int]:
        """Indices into `batch.reqs`, best to keep first: SGLang takes victims from the end.

        The picks come last; whoever was not picked stays in `engine_order`.
        """
        index = {req.rid: i for i, req in enumerate(self.batch.reqs)}
        picked = [index[name] for name in self._choices]
        taken = set(picked)
        return [i for i in engine_order if i not in taken] + picked[::-1]

    def released(self, req: Any, freed: int, free_before: int, otherwise: str) -> None:
        """Notes that `req` gave back `freed` tokens. `otherwise` is the source if no policy picked it."""
        start = perf_counter_ns()
        state = self._states[req.rid]
        choice = self._choices.get(req.rid) or Choice(state, otherwise, self._describe(self._alive()))
        self._events[req.rid] = victim_event(choice, freed, free_before, self._pool.page_size, self._clock())
        self.hook_ns += perf_counter_ns() - start

    def events(self, retracted: Sequence[Any]) -> list[dict[str, Any]]:
        """Events of the victims, in order; the first one carries the hook's time."""
        events = [self._events[req.rid] for req in retracted]
        if events:
            events[0]["hook_ns"] = self.hook_ns
        return events

    def _required(self, alive: Sequence[RequestState], index: Mapping[str, int]) -> int:
        """Tokens that SGLang says the next step of these takes."""
        return self.batch.new_tokens_required_next_decode([index[state.request_id] for state in alive])

    def _pick_one(self, policy: VictimPolicy, alive: list[RequestState], short: int) -> RequestState:
        pick = pick_victim(policy, alive, self._clock(), short)
        victim = pick.victim
        choice = Choice(victim, "strategy", self._describe(alive), pick.score, pick.select_ns)
        self._choices[victim.request_id] = choice
        return victim

    def _alive(self) -> list[RequestState]:
        return [state for name, state in self._states.items() if name not in self._events]

    def _describe(self, states: Sequence[RequestState]) -> list[CandidateRow]:
        return candidate_rows(states) if self._records else []


def victim_event(choice: Choice, freed: int, free_before: int, page_size: int, t: float) -> dict[str, Any]:
    """The `preempt` event of one victim, without its step.

    `tokens_freed` is the full footprint, as on every engine; `private_tokens`, `delta` and
    `utility` follow the radix-aware surrogate. `blocks_freed` became free or evictable.
    """
    state = choice.state
    delta = radix_disruption(state, state.private_tokens)
    return {
        "t": t,
        "requester": None,  # SGLang retracts for the whole batch
        "victim": state.request_id,
        "candidates": choice.candidates,
        "tokens_freed": state.computed_tokens,
        "private_tokens": state.private_tokens,
        "blocks_freed": freed // page_size,
        "free_blocks_before": free_before // page_size,
        "select_ns": choice.select_ns,
        "hook_ns": 0,
        "source": choice.source,
        "stalled": [],
        "delta": delta,
        "utility": compute_utility(state.private_tokens, delta),
        "score": choice.score,
    }
