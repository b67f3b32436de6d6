"""One of several simulated engines behind a router."""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Iterator
from enum import Enum

from ray_jobs.engines.routers.news import Done, News, Prefilled
from ray_jobs.engines.shared.load import RequestLog
from ray_jobs.engines.sim.clients import VirtualClients
from ray_jobs.engines.sim.loop import Simulation


class Desk:
    """The part of the clients that one replica serves; to its engine it is all there are. `news` takes what a router hears
    of its requests."""

    def __init__(self, clients: VirtualClients, news: list[News] | None = None):
        self._clients, self._news = clients, news
        self._sent: deque[tuple[float, RequestLog]] = deque()  # to it and when, and not taken in yet
        # A heap of those taken in: when each times out, and its place, for equal times.
        self._deadlines: list[tuple[float, int, str]] = []
        self._taken = 0
        self.live: set[str] = set()
        self.pauses = clients.pauses

    def put(self, log: RequestLog, now: float) -> None:
        """The router chose this replica."""
        self._sent.append((now, log))
        self.live.add(log.request.request_id)

    def let_go(self, request_id: str) -> RequestLog:
        """It is done here, and its client still waits: another engine answers."""
        self.live.discard(request_id)
        return self._clients.live[request_id].log

    @property
    def taken(self) -> set[str]:
        """Who is live and has reached the engine."""
        return self.live - {log.request.request_id for _, log in self._sent}

    def next_send(self) -> float | None:
        return self._sent[0][0] if self._sent else None

    def send(self, now: float) -> Iterator[RequestLog]:
        while self._sent and self._sent[0][0] <= now:
            _, log = self._sent.popleft()
            self._taken += 1
            entry = (self._clients.deadline_of(log), self._taken, log.request.request_id)
            heapq.heappush(self._deadlines, entry)
            yield log

    def next_deadline(self) -> float | None:
        while self._deadlines and self._deadlines[0][2] not in self.live:
            heapq.heappop(self._deadlines)
        return self._deadlines[0][0] if self._deadlines else None

    def receive(self, request_id: str, tokens: int, finished: bool, now: float) -> None:
        if self._news is not None and tokens and not self._clients.live[request_id].log.output_tokens:
            self._news.append(Prefilled(request_id))
        self._clients.receive(request_id, tokens, finished, now)
        if finished:
            self._let_go(request_id)

    def receive_one_each(self, request_ids: list[str], now: float) -> None:
        self._clients.receive_one_each(request_ids, now)

    def give_up(self, now: float) -> Iterator[str]:
        while (deadline := self.next_deadline()) is not None and deadline <= now:
            request_id = heapq.heappop(self._deadlines)[2]
            self._clients.close(request_id, deadline)
            self._let_go(request_id)
            yield request_id

    def _let_go(self, request_id: str) -> None:
        self.live.discard(request_id)
        if self._news is not None:
            self._news.append(Done(request_id))


class Phase(Enum):
    """What a replica does next."""

    SCHEDULE = "schedule"  # at its clock's time
    OUTPUT = "output"  # of the oldest step in flight, when that ends
    IDLE = "idle"  # nothing, until somebody is sent to it
    STUCK = "stuck"  # nothing that waits fits, until somebody comes, gives up, or a load ends


class Replica(Simulation):
    """An engine that is told when to go on. `next_t` is when something happens to it next, if nobody comes."""

    clients: Desk
    phase = Phase.IDLE

    def next_t(self) -> float:
        if self.phase is Phase.SCHEDULE:
            return self.clock.now
        if self.phase is Phase.OUTPUT:
            return max(self._batches[-1][2], self.clock.now)
        times = [self.clients.next_send()]
        if self.phase is Phase.STUCK:
            times.append(self.clients.next_deadline())
            times.append(self._host.next_end() if self._host is not None else None)
        return max(self.clock.now, min((t for t in times if t is not None), default=math.inf))

    def advance(self) -> None:
        """Does what is next."""
        if self.phase is Phase.OUTPUT:
            self.phase = Phase.SCHEDULE  # unless it is stuck
            self._finish()
            return
        self.clock.now = self.next_t()
        if self.phase is Phase.STUCK:
            self._abort_late()
        if self._begin():
            self.phase = Phase.SCHEDULE
        else:
            self.phase = Phase.OUTPUT if self._batches else Phase.IDLE

    def end(self) -> None:
        """The run is over: whoever is still here is aborted."""
        for request_id in sorted(self.clients.taken):
            self._abort(request_id)

    @property
    def offloads(self) -> bool:
        """Whether it has host memory for KV blocks."""
        return self._host is not None

    @property
    def kv_share(self) -> float:
        """Of its KV cache that is in use now."""
        return self.scheduler.kv_cache_manager.usage

    def _wait_for_room(self) -> bool:
        self.phase = Phase.STUCK
        return True
