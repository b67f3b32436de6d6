"""Memory that passers took goes back to the first in line when it has waited long enough for it."""

from __future__ import annotations

from collections.abc import Callable, Set
from typing import Any

from bidkv.adapters.shared.tickets import Ticket, Tickets
from bidkv.adapters.vllm.memory.blocks import KVBlocks
from bidkv.adapters.vllm.memory.demand import Demand
from bidkv.adapters.vllm.memory.seats import all_taken
from bidkv.admission.base import AdmissionPolicy


class Reclaim:
    """Plans which passers are preempted for the first in line, none in vain.

    What those hold that joined later and started before it is memory that it would have had in arrival order. From when
    it would have fitted with that, it waits no longer than the policy's `grace`. The passers go back to their own
    places. The preemptions are vLLM's own, made where it allocates.
    """

    AGAIN = 16
    EVERY = 4  # steps after which passers are looked for again

    def __init__(self, scheduler: Any, tickets: Tickets[Any], blocks: KVBlocks, demand: Demand):
        self._scheduler, self._tickets, self._blocks, self._demand = scheduler, tickets, blocks, demand
        self.granted: str | None = None  # for whom there was an eviction: the policy holds it back no more
        self.victims: list[Any] = []  # still to be preempted in this step
        self.rests = False  # they are in flight: they leave out this step, and are preempted later
        self.head: str | None = None  # for whom
        self._could: tuple[str, float] = ("", 0.0)  # who would fit without passers, and since when
        self._steps = 0
        self._waits = 0  # steps until it is reckoned again, block by block, who would have to go

    def begin(self) -> None:
        """A step begins."""
        self.victims, self.rests, self.head = [], False, None
        self._steps += 1
        self._waits = max(0, self._waits - 1)

    def plan(
        self,
        head: Ticket[Any],
        known_need: float,
        policy: AdmissionPolicy,
        now: float,
        ready: Callable[[Any], bool],
        may_free: Callable[[Any], bool],
    ) -> None:
        """Fills `victims`, the latest start first, where it is time to make room for `head`; else leaves none."""
        if not known_need or self._waits:
            return
        known = self._could[0] == head.name
        if not (self._is_due(head, policy, now) if known else self._steps % self.EVERY == 0):
            return
        passers = self._passers(head)
        if not passers or head.item.num_computed_tokens or not ready(head.item):
            return
        scheduler, running = self._scheduler, len(self._scheduler.running)
        full = all_taken(scheduler)
        gains = self._blocks.freed_in_turn([passer.request_id for passer in passers])
        # Who goes on running may take blocks before the next step, in which the first in line starts.
        free = self._blocks.free() - 1 - (running - len(passers)) // 4
        if known_need > free + sum(gains):
            self._waits = self.EVERY
            return
        if not known:
            self._could = (head.name, now)
        if not self._is_due(head, policy, now):
            return
        needed = self._demand.exact(head.item) + self._demand.watermark(head.item)
        if needed <= free and not full:
            return
        self.head, kept = head.name, self._demand.held_hits(head.item)
        self.victims = self._enough([p for p in passers if may_free(p)], needed - free, kept)
        if self.victims:
            self.granted = head.name
        else:
            self.victims = self._enough(passers, needed - free, kept)
            self.rests = bool(self.victims)
        if not self.victims:  # what they share with it is its own already
            self._waits = self.AGAIN

    def next(self, requester: Any) -> Any | None:
        """The next to be preempted while `requester` allocates, at last itself; None if there is none that runs behind
        it. Of those in flight the first that asks: vLLM does not preempt it, but leaves it and all behind it out."""
        running = self._scheduler.running
        if self.rests:
            return requester if requester in self.victims else None
        while self.victims:
            victim = self.victims.pop(0)
            if victim in running and running.index(victim) >= running.index(requester):
                return victim
        return None

    def _is_due(self, head: Ticket[Any], policy: AdmissionPolicy, now: float) -> bool:
        """Whether it is long enough since it would have fitted without passers."""
        since = self._could[1]
        return now - since >= max(policy.grace_s, policy.grace * (since - head.t))

    def _passers(self, head: Ticket[Any]) -> list[Any]:
        names = set(self._tickets.overtook(head))
        return [r for r in reversed(self._scheduler.running) if r.request_id in names] if names else []

    def _enough(self, passers: list[Any], lacking: int, kept: Set[int]) -> list[Any]:
        """The first of these that give back as many blocks together, without those that are `kept`; none if all of
        them do not."""
        gains = self._blocks.freed_in_turn([passer.request_id for passer in passers], kept)
        for count, gain in enumerate(gains, start=1):
            lacking -= gain
            if lacking <= 0:
                return passers[:count]
        return []
