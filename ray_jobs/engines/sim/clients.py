"""Clients on virtual time: when requests are sent, what they get, when they give up."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from ray_jobs.engines.shared.load import RequestLog
from ray_jobs.workload.trace import Trace
from ray_jobs.workload.turns import Turns


@dataclass(slots=True)
class Exchange:
    """A request under way."""

    log: RequestLog
    last_t: float
    gaps: list[float] = field(default_factory=list)


class VirtualClients:
    """The load generator of a simulation: the same logs as `ray_jobs.engines.shared.load.LoadGenerator`, no waiting.

    Requests are sent at the very moment they are scheduled. In a closed loop a user is ready again
    `think_time_s` after an answer or a timeout. A session goes on after answers only.
    """

    def __init__(self, trace: Trace, request_timeout_s: float):
        self.logs = [RequestLog(request, request.arrival_s) for request in trace.requests]
        self.live: dict[str, Exchange] = {}
        self._timeout_s = request_timeout_s
        self._think_s = trace.think_time_s
        self._turns = Turns(trace.requests)
        self.pauses = trace.pauses
        self._ready: list[float] | None = None  # closed loop: when each idle user sends again
        if trace.closed_loop_users:
            self._ready = [0.0] * trace.closed_loop_users
        # A heap of what can be sent: when (in a closed loop in what order), and its place in the trace.
        self._due = [(self.logs[place].scheduled_t, place) for place in self._turns.first()]
        self._deadlines: deque[tuple[float, str]] = deque()

    def next_send(self) -> float | None:
        """When the next request is due; None if all are sent or every user waits for an answer."""
        if not self._due:
            return None
        if self._ready is None:
            return self._due[0][0]
        return self._ready[0] if self._ready else None

    def next_deadline(self) -> float | None:
        """When the next unanswered request times out."""
        while self._deadlines and self._deadlines[0][1] not in self.live:
            self._deadlines.popleft()
        return self._deadlines[0][0] if self._deadlines else None

    def send(self, now: float) -> Iterator[RequestLog]:
        """The requests due by `now`, each marked as sent when it was due."""
        while (due := self.next_send()) is not None and due <= now:
            log = self.logs[heapq.heappop(self._due)[1]]
            if self._ready is not None:
                heapq.heappop(self._ready)
            log.scheduled_t = log.sent_t = due
            log.status = "timeout"  # what it stays if nothing else happens
            self.live[log.request.request_id] = Exchange(log, due)
            self._deadlines.append((due + self._timeout_s, log.request.request_id))
            yield log

    def receive(self, request_id: str, tokens: int, finished: bool, now: float) -> None:
        """`tokens` more output tokens arrived at `now`."""
        exchange = self.live[request_id]
        log = exchange.log
        if tokens:
            if log.output_tokens:
                exchange.gaps.append(now - exchange.last_t)
            else:
                log.first_token_t = now
            log.output_tokens += tokens
            exchange.last_t = now
        if finished:
            self.close(request_id, now)
            log.finish(now)
            if log.status == "ok":
                for due in self._turns.answered(request_id, now):
                    heapq.heappush(self._due, due)

    def receive_one_each(self, request_ids: list[str], now: float) -> None:
        """One more token, not the first and not the last, for each of these requests."""
        live = self.live
        for request_id in request_ids:
            exchange = live[request_id]
            exchange.gaps.append(now - exchange.last_t)
            exchange.last_t = now
            exchange.log.output_tokens += 1

    def give_up(self, now: float) -> Iterator[str]:
        """The requests that time out by `now`, in the order they were sent."""
        while (deadline := self.next_deadline()) is not None and deadline <= now:
            _, request_id = self._deadlines.popleft()
            self.close(request_id, deadline)
            yield request_id

    def deadline_of(self, log: RequestLog) -> float:
        """When a request that was sent times out."""
        return log.sent_t + self._timeout_s

    def hang_up(self) -> list[str]:
        """Ends the run: every request still unanswered."""
        left = list(self.live)
        for request_id in left:
            self.close(request_id, 0.0)
        return left

    def close(self, request_id: str, now: float) -> None:
        """Nobody waits for this one any more."""
        exchange = self.live.pop(request_id)
        exchange.log.itl_s = np.array(exchange.gaps)
        if self._ready is not None:
            heapq.heappush(self._ready, now + self._think_s)
