"""Memory that passers took goes back to the first in line as soon as that lets it start."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bidkv.adapters.shared.tickets import Ticket, Tickets
from bidkv.adapters.vllm.blocks import KVBlocks
from bidkv.adapters.vllm.demand import Demand


class Reclaim:
    """Plans which passers are preempted for the first in line, none in vain.

    vLLM would have served it in arrival order: what those hold that joined later and started before it is memory that
    it would have had. They go back to their own places. The preemptions are vLLM's own, made where it allocates.
    """

    def __init__(self, scheduler: Any, tickets: Tickets[Any], blocks: KVBlocks, demand: Demand):
        self._scheduler, self._tickets, self._blocks, self._demand = scheduler, tickets, blocks, demand
        self.granted: str | None = None  # for whom there was an eviction: the policy holds it back no more
        self.victims: list[Any] = []  # still to be preempted in this step
        self.head: str | None = None  # for whom

    def plan(
        self,
        head: Ticket[Any],
        known_need: float,
        ready: Callable[[Any], bool],
        may_free: Callable[[Any], bool],
    ) -> None:
        """Fills `victims`, the latest start first, where evicting passers makes room for `head`; else leaves none."""
        self.victims, self.head = [], None
        scheduler, request = self._scheduler, head.item
        if request.num_computed_tokens or not ready(request):
            return
        running = {r.request_id: r for r in scheduler.running}
        passers = [running[name] for name in self._tickets.overtook(head) if name in running]
        passers = [passer for passer in passers if may_free(passer)]
        if not passers:
            return
        seats = getattr(scheduler, "max_num_active_reqs", scheduler.max_num_running_reqs)
        full = len(running) + scheduler.num_waiting_for_streaming_input >= seats
        _, private = self._blocks.held_by([passer.request_id for passer in passers])
        # Who goes on running may take blocks before the next step, in which the first in line starts.
        spare = 1 + (len(running) - len(passers)) // 4
        free = self._blocks.free() - spare
        if known_need > free + sum(private):
            return
        needed = self._demand.exact(request) + self._demand.watermark(request)
        if needed <= free and not full:
            return
        for passer, blocks in zip(passers, private, strict=True):
            self.victims.append(passer)
            free += blocks
            if needed <= free:
                self.head = self.granted = head.name
                return
        self.victims = []

    def next(self, requester: Any) -> Any | None:
        """The next to be preempted while `requester` allocates; None if there is none that runs behind it."""
        running = self._scheduler.running
        while self.victims:
            victim = self.victims.pop(0)
            if (
                victim is not requester
                and victim in running
                and running.index(victim) > running.index(requester)
            ):
                return victim
        return None
