"""What the real engines share: a control file, a load in real time, and an engine drained after it."""

from __future__ import annotations

import asyncio
import time
from abc import abstractmethod
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bidkv.adapters.shared.clock import steady_time
from bidkv.adapters.shared.events import read_events
from bidkv.adapters.shared.settings import AdapterSettings
from ray_jobs.engines.job import JobConfig
from ray_jobs.engines.shared.base import EngineBackend, host_environment
from ray_jobs.engines.shared.load import Answer, LoadGenerator, RequestLog
from ray_jobs.engines.shared.records import check_records
from ray_jobs.engines.shared.requests_table import requests_table
from ray_jobs.workload.trace import Trace, TraceRequest
from tracking.result import RunResult

SETTLE_S = 30.0  # how long the engine may take to abort what a deadline left behind, or to take new settings


@dataclass(frozen=True)
class Sent:
    """What the client saw of one run. Times in seconds since the epoch, by `steady_time`."""

    logs: list[RequestLog]
    status: str
    started_t: float
    finished_t: float
    cpu_s: float  # of the process that sent


class RealTime(EngineBackend):
    """What is driven in real time: a run begins, its trace is sent, and it ends when nobody is left of it."""

    async def run(self, trace: Trace, job: JobConfig, run_id: str) -> RunResult:
        """Raises RuntimeError if the engine did not take the settings, did not end a request or lost records."""
        settings = self.adapter_settings(job, run_id)
        await self.begin(settings)
        sent = await self._send(trace, job)
        await self.end()
        return self._result(settings, sent)

    @abstractmethod
    async def begin(self, settings: AdapterSettings) -> None:
        """Starts a run of these settings on an empty prefix cache."""

    @abstractmethod
    async def end(self) -> None:
        """Ends the run, so that `run_end` is its last record."""

    @abstractmethod
    async def settle(self) -> None:
        """Waits until what a deadline left behind is aborted. Raises RuntimeError if requests are left after `SETTLE_S`."""

    @abstractmethod
    def generate(self, request: TraceRequest) -> Answer:
        """See `ray_jobs.engines.shared.load.Generate`."""

    def _result(self, settings: AdapterSettings, sent: Sent) -> RunResult:
        return read_result(settings, sent) if self.config.adapter else unrecorded_result(sent)

    async def _warm_up(self) -> None:
        """A few requests of growing length, so that the first run does not pay for first calls."""

        async def drain(request: TraceRequest) -> None:
            async for _ in self.generate(request):
                pass

        longest = min(self.config.max_model_len // 2, 1024)
        generator = np.random.default_rng(0)
        for tokens in (16, longest // 4, longest):
            prompt = generator.integers(3, self.config.vocab_size, tokens, dtype=np.int32)
            requests = [TraceRequest(f"warm-up-{tokens}-{i}", 0.0, prompt, 8, 8) for i in range(4)]
            await asyncio.gather(*(drain(request) for request in requests))

    async def _send(self, trace: Trace, job: JobConfig) -> Sent:
        live_answers = job.workload.sessions.answers == "live"
        load = LoadGenerator(trace, self.generate, job.run.request_timeout_s, job.run.timeout_s, live_answers)
        # The clock that engines record by: one that is set between two runs makes no client late.
        started_t = steady_time()
        status = await load.run()
        await self.settle()
        return Sent(load.logs, status, started_t, steady_time(), load.cpu_s)


class LiveEngine(RealTime):
    """A real engine as `self.engine`, which the adapter's control file steers."""

    engine: Any

    @property
    def control(self) -> Path:
        return self.folder / "control.json"

    async def stop(self) -> None:
        await asyncio.to_thread(self.engine.shutdown)

    @abstractmethod
    async def _reset_cache(self) -> bool:
        """Empties the prefix cache; False as long as a request holds memory."""

    @abstractmethod
    def _unfinished(self) -> int:
        """Requests the engine's front has not ended; what it aborts is told to the scheduler at once."""

    async def settle(self) -> None:
        async def drained() -> bool:
            return not self._unfinished()

        await _until(drained, "the engine did not end all requests of the run")

    async def empty_cache(self) -> None:
        """Empties the prefix cache; raises RuntimeError if the engine still refuses after `SETTLE_S`."""
        await _until(
            self._reset_cache, "the engine did not empty its prefix cache: requests still hold memory"
        )

    def _environment(self, engine: str, version: str, scheduler: str) -> dict[str, Any]:
        import torch

        return host_environment() | {
            "engine": engine,
            "engine_version": version,
            "scheduler": scheduler,
            "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        }


async def _until(done: Callable[[], Awaitable[bool]], otherwise: str) -> None:
    deadline = time.monotonic() + SETTLE_S
    while not await done():
        if time.monotonic() > deadline:
            raise RuntimeError(f"{otherwise} (within {SETTLE_S:.0f} s)")
        await asyncio.sleep(0.05)


def unrecorded_result(sent: Sent) -> RunResult:
    """What the client saw of an engine without the adapter."""
    return RunResult(
        status=sent.status,
        requests=requests_table(sent.logs, None),
        started_t=sent.started_t,
        finished_t=sent.finished_t,
        recorded=False,
        client_cpu_s=sent.cpu_s,
    )


def read_result(settings: AdapterSettings, sent: Sent) -> RunResult:
    """What a run left: the client's logs and the adapter's records; raises if they do not add up."""
    events = read_events(settings.events_path)
    steps = read_events(settings.steps_path)
    check_records(settings, events, sent.logs, len(steps))
    return RunResult(
        status=sent.status,
        requests=requests_table(sent.logs, events),
        events=events,
        steps=pd.DataFrame(steps),
        started_t=sent.started_t,
        finished_t=sent.finished_t,
        client_cpu_s=sent.cpu_s,
    )
