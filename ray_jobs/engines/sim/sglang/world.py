"""Clients and a device on virtual time, around SGLang's event loop."""

from __future__ import annotations

import time
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from typing import Any

from ray_jobs.engines.shared.base import request_facts
from ray_jobs.engines.shared.load import RequestLog
from ray_jobs.engines.sim.clients import VirtualClients
from ray_jobs.engines.sim.clock import VirtualClock
from ray_jobs.engines.sim.roofline import StepTimeModel
from ray_jobs.engines.sim.sglang import messages
from ray_jobs.engines.sim.sglang.adapter import VirtualAdapter
from ray_jobs.engines.sim.sglang.scheduler import VirtualScheduler

EMPTY_ROUND_S = 0.001
"""How long a round takes in which nobody starts though somebody waits; twice as long as the one before, if several follow:
what is decided then may depend on the time, and a real loop would spin."""


class VirtualWorld:
    """One run. The device takes its steps one after the other, each for as long as `model` says; a round of SGLang's
    takes no time but where it waits for the device."""

    def __init__(
        self,
        scheduler: VirtualScheduler,
        adapter: VirtualAdapter,
        clients: VirtualClients,
        model: StepTimeModel,
        clock: VirtualClock,
        run_timeout_s: float,
        wall_timeout_s: float,
        check: Callable[[], None] | None = None,
    ):
        """`check` is called between two rounds."""
        self._scheduler, self._adapter, self._clients = scheduler, adapter, clients
        self._model, self._clock, self._check = model, clock, check
        self._run_timeout_s, self._wall_timeout_s = run_timeout_s, wall_timeout_s
        self._wall_deadline = time.monotonic() + wall_timeout_s
        self._ends: deque[float] = deque()  # of the steps under way
        self._device_free_t = 0.0
        self._delivered: defaultdict[str, int] = defaultdict(int)  # output tokens, by request
        self._gone: list[str] = []  # who gave up since SGLang was last told
        self._empty_s = EMPTY_ROUND_S
        self.over = self.cut_short = self.too_slow = False

    @property
    def status(self) -> str:
        return "timeout" if self.cut_short else "finished"

    # -- what SGLang's loop tells: see `scheduler.World` ---------------------------------------

    def intake(self) -> Sequence[Any]:
        if self._check is not None:
            self._check()
        if self.over:
            return ()
        if time.monotonic() > self._wall_deadline:
            self.too_slow = True
            return self._hang_up()
        if self._clock.now >= self._run_timeout_s:
            return self._hang_up()
        now = self._clock.now
        self._give_up()
        return [*self._aborts(), *(self._request(log) for log in self._clients.send(now))]

    def launched(self) -> None:
        start = max(self._clock.now, self._device_free_t)
        self._device_free_t = start + self._model.seconds(self._adapter.step_columns.latest)
        self._ends.append(self._device_free_t)
        self._empty_s = EMPTY_ROUND_S

    def ended(self) -> None:
        self._clock.now = min(max(self._clock.now, self._ends.popleft()), self._run_timeout_s)
        if self._clock.now < self._run_timeout_s:  # else the run ends, and all hang up
            self._give_up()  # before it is answered: SGLang hears of it in its next round

    def delivered(self, reqs: Sequence[Any]) -> None:
        clients, now = self._clients, self._clock.now
        if now >= self._run_timeout_s:
            return  # too late
        for req in reqs:
            if req.rid not in clients.live:  # its client has gone, or it ended a step ago
                continue
            tokens, finished = len(req.output_ids) - self._delivered[req.rid], req.finished()
            if tokens or finished:
                self._delivered[req.rid] += tokens
                clients.receive(req.rid, tokens, finished, now)

    def refused(self, req: Any, reason: str) -> None:
        """SGLang gave a request up that waited."""
        exchange = self._clients.live.get(req.rid)
        if exchange is not None:
            exchange.log.status, exchange.log.error = "error", reason
            self._clients.close(req.rid, self._clock.now)

    def idle(self) -> bool:
        waits = not self._scheduler.is_fully_idle()
        if self.over:
            return waits
        times = [self._clients.next_send(), self._clients.next_deadline()]
        if waits:
            times.append(self._clock.now + self._empty_s)
            self._empty_s *= 2
        next_t = min((t for t in times if t is not None), default=None)
        if next_t is None:
            self.over = True
            return False
        self._clock.now = min(max(self._clock.now, next_t), self._run_timeout_s)
        return True

    # ------------------------------------------------------------------------------------------

    def _give_up(self) -> None:
        self._gone += self._clients.give_up(self._clock.now)

    def _aborts(self) -> list[Any]:
        gone, self._gone = self._gone, []
        return [messages.abort(request_id) for request_id in gone]

    def _hang_up(self) -> Sequence[Any]:
        """The run's time is over: all clients go, and SGLang ends what it has."""
        self.cut_short = bool(self._clients.live) or self._clients.next_send() is not None
        self.over = True
        self._gone += self._clients.hang_up()
        return self._aborts()

    def _request(self, log: RequestLog) -> Any:
        request = log.request
        self._scheduler.tokens.add(request.request_id)
        pause = self._clients.pauses.get(request.request_id)
        return messages.generate(request, request_facts(request, log.sent_t, pause))
