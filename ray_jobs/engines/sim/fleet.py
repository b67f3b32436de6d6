"""Several simulated engines on one virtual time, behind a router."""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence

from ray_jobs.engines.routers.base import Known, Router
from ray_jobs.engines.routers.news import News
from ray_jobs.engines.shared.load import RequestLog
from ray_jobs.engines.sim.clients import VirtualClients
from ray_jobs.engines.sim.clock import VirtualClock
from ray_jobs.engines.sim.loop import drive
from ray_jobs.engines.sim.replica import Replica


class Fleet:
    """One run of all replicas. What happens first is done first, so that no answer comes before its question.

    The router is told of a replica's state every `stale_s` seconds, or as it is at the moment where that is 0; so it is of
    `news`, a list for each replica, if it hears them.
    """

    def __init__(
        self,
        replicas: list[Replica],
        clients: VirtualClients,
        router: Router,
        stale_s: float,
        run_timeout_s: float,
        wall_timeout_s: float,
        news: Sequence[list[News]] = (),
    ):
        self._news = news
        self.replicas, self.clients, self.router = replicas, clients, router
        self.run_timeout_s, self.wall_timeout_s, self.stale_s = run_timeout_s, wall_timeout_s, stale_s
        self.clock = VirtualClock()
        self.chosen: dict[str, int] = {}  # the replica of each request
        self._offloads = any(replica.offloads for replica in replicas)
        self._known = [Known() for _ in replicas]
        self._report_t = 0.0  # when the replicas report next
        self._agenda: list[
            tuple[float, int]
        ] = []  # (when something happens, to which replica); late entries are stale

    def run(self) -> str:
        """Until all is answered: "finished"; or "timeout" if the run's virtual deadline passes first.

        Raises TimeoutError after `wall_timeout_s` real seconds.
        """
        drive(self._turn, self.clock, self.wall_timeout_s)
        status = "timeout" if self.clients.live or self.clients.next_send() is not None else "finished"
        for replica in self.replicas:
            replica.end()
        self.clients.hang_up()
        return status

    def _turn(self) -> bool:
        """What happens next, to the clients or to one replica; False when the run is over."""
        t, number = self._next_replica()
        sends = self.clients.next_send()
        if sends is None:
            sends = math.inf
            if t == math.inf or (self._offloads and not self.clients.live):
                return False  # what is still being stored is of no use to anyone
        now = min(t, sends)
        if now > self.run_timeout_s:
            self.clock.now = self.run_timeout_s
            return False
        self.clock.now = max(self.clock.now, now)
        if self.stale_s and self._report_t <= now:
            self._report()
            self._report_t = self.stale_s * (math.floor(now / self.stale_s) + 1)
        if sends <= t:
            for log in self.clients.send(sends):
                self._route(log)
        else:
            self._go_on(number)
        return True

    def _next_replica(self) -> tuple[float, int]:
        agenda = self._agenda
        while agenda and agenda[0][0] != self.replicas[agenda[0][1]].next_t():
            heapq.heappop(agenda)
        return agenda[0] if agenda else (math.inf, -1)

    def _go_on(self, number: int) -> None:
        heapq.heappop(self._agenda)
        self.replicas[number].advance()
        self._enter(number)

    def _enter(self, number: int) -> None:
        t = self.replicas[number].next_t()
        if t < math.inf:
            heapq.heappush(self._agenda, (t, number))

    def _route(self, log: RequestLog) -> None:
        """A request came: the router chooses."""
        number = self._choose(self.router, log, log.sent_t, 0)
        self.chosen[log.request.request_id] = number
        self.replicas[number].clients.put(log, log.sent_t)
        self._enter(number)

    def _choose(self, router: Router, log: RequestLog, now: float, first: int) -> int:
        """The number of one of those that `router` is in front of, of which `first` is the first."""
        if not self.stale_s:
            self._report()
        number = first + router.choose(log.request, self._known[first : first + router.replicas], now)
        known = self._known[number]
        known.sent += 1
        known.sent_tokens += len(log.request.prompt_token_ids)
        return number

    def _report(self) -> None:
        self._known = [Known(len(replica.clients.live), replica.kv_share) for replica in self.replicas]
        for number, news in enumerate(self._news):
            if news:
                self.router.hear(number, news)
                news.clear()
