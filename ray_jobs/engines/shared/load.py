"""Sends a frozen trace to an engine and notes when what happened."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field

from ray_jobs.engines.shared.answers import LiveAnswers
from ray_jobs.workload.trace import Trace, TraceRequest
from ray_jobs.workload.turns import Turns


@dataclass(frozen=True, slots=True)
class Relayed:
    """Chunks of an answer that were passed on together: when each left the engine, by this machine's
    `time.perf_counter`, and its new tokens."""

    chunks: list[tuple[float, Sequence[int]]]


Answer = AsyncIterator[Sequence[int] | Relayed]

Generate = Callable[[TraceRequest], Answer]
"""Starts one request; yields the ids of each chunk's new output tokens, as they come. Closing it aborts."""


@dataclass
class RequestLog:
    """What the client saw of one request. Times in seconds since the run's start; NaN = never."""

    request: TraceRequest
    scheduled_t: float
    status: str = "unsent"
    error: str | None = None
    sent_t: float = math.nan
    first_token_t: float = math.nan
    finish_t: float = math.nan
    output_tokens: int = 0
    itl_s: list[float] = field(default_factory=list)

    def finish(self, t: float) -> None:
        """The last token came at `t`: "ok", or "error" if the answer has not the length it should have."""
        self.finish_t, self.status = t, "ok"
        if self.output_tokens != self.request.output_tokens:
            self.status = "error"
            self.error = f"{self.output_tokens} output tokens, expected {self.request.output_tokens}"


class LoadGenerator:
    """Open loop by default: a late response never delays the next arrival.

    A trace with `closed_loop_users` is sent by that many users instead, each waiting for its
    answer (and `think_time_s`) before the next request; a request is then scheduled when its
    user is ready to send it. A turn of a session is scheduled by the answers it waits for; one that
    is not answered in full ends its session, and what waits for it is never sent. With `live_answers`
    turns go on from what the engine said, not from the recorded answers.
    """

    def __init__(
        self,
        trace: Trace,
        generate: Generate,
        request_timeout_s: float,
        run_timeout_s: float,
        live_answers: bool = False,
    ):
        self.trace = trace
        self.generate = generate
        self.request_timeout_s = request_timeout_s
        self.run_timeout_s = run_timeout_s
        self.logs = [RequestLog(request, request.arrival_s) for request in trace.requests]
        self.cpu_s = (
            0.0  # of this process during the run: the generator's, and that of an engine's part in it
        )
        self._turns = Turns(trace.requests)
        self._answers = LiveAnswers(trace.requests) if live_answers else None

    async def run(self) -> str:
        """Sends everything; returns "finished", or "timeout" if the run's deadline passed first."""
        self._start, cpu = time.perf_counter(), time.process_time()
        send = self._closed_loop if self.trace.closed_loop_users else self._open_loop
        try:
            async with asyncio.timeout(self.run_timeout_s):
                await send()
        except TimeoutError:
            return "timeout"
        finally:
            self.cpu_s = time.process_time() - cpu
        return "finished"

    def _now(self) -> float:
        return time.perf_counter() - self._start

    async def _open_loop(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for place in self._turns.first():
                await self._until(self.logs[place].scheduled_t)
                tasks.create_task(self._converse(self.logs[place], tasks))

    async def _converse(self, log: RequestLog, tasks: asyncio.TaskGroup) -> None:
        """Sends a request when it is due; its answer starts what waited for it."""
        await self._until(log.scheduled_t)
        await self._send(log)
        if log.status == "ok":
            for due, place in self._turns.answered(log.request.request_id, log.finish_t):
                self.logs[place].scheduled_t = due
                tasks.create_task(self._converse(self.logs[place], tasks))

    async def _until(self, t: float) -> None:
        if (wait := t - self._now()) > 0:
            await asyncio.sleep(wait)

    async def _closed_loop(self) -> None:
        queue = iter(self.logs)

        async def user() -> None:
            due: float | None = None
            for log in queue:
                log.scheduled_t = self._now() if due is None else due
                await self._send(log)
                if log.status == "ok":  # from when the answer left the engine: who reads it late sends late
                    due = log.finish_t + self.trace.think_time_s
                    await self._until(due)
                else:
                    due = None
                    await asyncio.sleep(self.trace.think_time_s)

        async with asyncio.TaskGroup() as tasks:
            for _ in range(self.trace.closed_loop_users):
                tasks.create_task(user())

    async def _send(self, log: RequestLog) -> None:
        log.sent_t = last = self._now()
        log.status = "timeout"  # what it stays if a deadline cancels us
        request = self._answers.prompt_of(log.request) if self._answers else log.request
        try:
            async with asyncio.timeout(self.request_timeout_s):
                async for said in self.generate(request):
                    chunks = said.chunks if isinstance(said, Relayed) else [(time.perf_counter(), said)]
                    for at, tokens in chunks:
                        now = at - self._start
                        if log.output_tokens == 0:
                            log.first_token_t = now
                        else:
                            log.itl_s.append(now - last)
                        log.output_tokens, last = log.output_tokens + len(tokens), now
                        if self._answers:
                            self._answers.said(request.request_id, tokens)
        except TimeoutError:
            return
        except Exception as error:  # one request's failure is a result, not the end of the run
            log.status, log.error = "error", f"{type(error).__name__}: {error}"
            return
        log.finish(last)
