"""Memory that passers took goes back to the first in line when it has waited long enough for it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from bidkv.adapters.sglang.layout import kv_field
from bidkv.adapters.sglang.places import Places
from bidkv.adapters.sglang.pool import KVPool
from bidkv.admission.base import AdmissionPolicy
from bidkv.request import RequestState


class FirstInLine:
    """What is remembered, from one look at the queue to the next, of the first in line that does not start.

    What those hold that joined later and started before it is memory that it would have had in arrival order. From when
    it would fit with that, it waits no longer than the policy's `grace`; nobody is evicted in vain. One that fits,
    but that the policy holds back, waits no longer than its `patience`. Where nobody gives memory back, it is passed for
    no longer than `passing`.
    """

    EVERY = 4  # looks after which passers are looked for again

    def __init__(self, places: Places, pool: KVPool):
        self._places, self._pool = places, pool
        self._name: str | None = None
        self._first = 0.0  # since when it is the first
        self._blocked: float | None = None  # since when it does not fit, and how long it had waited by then
        self._waited = 0.0
        self._held: float | None = None  # since when it would fit, and the policy says no
        self._could: float | None = None  # since when it would fit without passers
        self._needed = (
            0  # tokens that must be free or evictable for it to start; 0: that is not what it lacks
        )
        self._looks = 0
        self.granted: str | None = None  # for whom there was an eviction: the policy holds it back no more

    def refused(self, name: str, now: float, arrival: float, needed: int, free: float) -> None:
        """SGLang has no room for the first in line, which needs so many tokens; `free` is what it may have of them."""
        self._see(name, now)
        self._held = None
        if self._blocked is None:
            self._blocked, self._waited = now, max(0.0, now - arrival)
        # With what SGLang keeps for those that run, and with the part of its own prefix that could be evicted.
        self._needed = needed + self._pool.reclaimable_tokens() - int(free) + 1

    def passed_long_enough(self, now: float, policy: AdmissionPolicy) -> bool:
        """Whether nobody may pass it any more. It gets memory back from passers where the policy `reclaims`."""
        if policy.reclaims or policy.passing == math.inf or self._blocked is None:
            return False
        return now - self._blocked > max(policy.passing_s, policy.passing * self._waited)

    def is_held_back(self, name: str, now: float, arrival: float, policy: AdmissionPolicy) -> bool:
        """Whether the policy may keep the first in line waiting, for which there is room."""
        self._see(name, now)
        self._needed = 0
        if name == self.granted:
            return False
        if self._held is None:
            self._held = now
        return not now - self._held > policy.patience * max(0.0, self._held - arrival)

    def passers_to_evict(
        self,
        batch: Any,
        states_of: Callable[[], dict[str, RequestState]],
        policy: AdmissionPolicy,
        now: float,
    ) -> list[Any]:
        """Those of a running batch that make room for the first in line, if it is time: the last to start go first.

        `states_of()` gives the states of the batch by request id; their memory is filled in.
        """
        if not policy.reclaims or not self._needed or self._name not in self._places:
            return []
        head = self._places[self._name]
        self._looks += 1
        if not head.waits or self._looks % self.EVERY:
            return []
        passers = [r for r in batch.reqs if not r.finished() and self._places.overtook(r.rid, head)]
        if not passers:
            return []
        # Who goes on running takes memory too until the first in line starts.
        short = self._needed + len(batch.reqs) - self._pool.reclaimable_tokens()
        if sum(kv_field(passer, "kv_allocated_len") for passer in passers) < short:
            return []
        if self._could is None:
            self._could = now
        if now - self._could < max(policy.grace_s, policy.grace * (self._could - self._first)):
            return []
        states = states_of()
        if len(states) < len(batch.reqs):
            return []  # somebody has just ended
        self._pool.measure(states, batch.reqs)
        private = {r.rid: states[r.rid].private_tokens for r in passers}
        if sum(private.values()) < short:
            return []
        victims: list[Any] = []
        for passer in sorted(passers, key=lambda req: -self._places[req.rid].started):
            victims.append(passer)
            short -= private[passer.rid]
            if short <= 0:
                break
        self.granted, self._needed, self._could = self._name, 0, None
        return victims

    @property
    def name(self) -> str | None:
        return self._name

    def _see(self, name: str, now: float) -> None:
        if name != self._name:
            self._name, self._first = name, now
            self._blocked = self._held = self._could = None
