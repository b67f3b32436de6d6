"""Prefill engines behind one router, decode engines behind another, on one virtual time."""

from __future__ import annotations

from typing import Any

from ray_jobs.engines.routers.base import Router
from ray_jobs.engines.shared.load import RequestLog
from ray_jobs.engines.sim.clients import VirtualClients
from ray_jobs.engines.sim.disaggregated.engines import Decode, Prefill
from ray_jobs.engines.sim.disaggregated.transfers import Pulls, engine_ids
from ray_jobs.engines.sim.fleet import Fleet


class DisaggregatedFleet(Fleet):
    """A request goes to a prefill engine when it comes, and to a decode engine when its prompt is through.

    Its blocks stay on the prefill engine until the decode engine has pulled them. `chosen` is the prefill engine of each
    request, `decodes` its decode engine, by their places in `replicas`, where the prefill engines come first.
    """

    def __init__(
        self,
        prefill: list[Prefill],
        decode: list[Decode],
        pulls: list[Pulls],
        clients: VirtualClients,
        routers: tuple[Router, Router],
        stale_s: float,
        run_timeout_s: float,
        wall_timeout_s: float,
    ):
        into, onward = routers
        super().__init__([*prefill, *decode], clients, into, stale_s, run_timeout_s, wall_timeout_s)
        self._onward, self._first, self._pulls = onward, len(prefill), pulls
        self._places = {name: place for place, name in enumerate(engine_ids("prefill", len(prefill)))}
        self._offloads = False  # a prefill engine is done when its blocks were pulled, or nobody wants them
        self.decodes: dict[str, int] = {}
        for engine in prefill:
            engine.hand_over = self._hand_over

    def _hand_over(self, log: RequestLog, where: dict[str, Any], now: float) -> None:
        number = self._choose(self._onward, log, now, self._first)
        self.decodes[log.request.request_id] = number
        self.replicas[number].take(log, where, now)
        self._enter(number)

    def _go_on(self, number: int) -> None:
        super()._go_on(number)
        if number >= self._first:  # prefill engines that waited for its pulls have something to wait for
            asked = self._pulls[number - self._first].asked
            for engine_id in dict.fromkeys(asked):
                self._enter(self._places[engine_id])
            asked.clear()
