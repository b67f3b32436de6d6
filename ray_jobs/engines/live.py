"""What the real engines share: a control file, a load in real time, and an engine drained after it."""

from __future__ import annotations

import asyncio
import time
from abc import abstractmethod
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bidkv.adapters.events import read_events
from bidkv.adapters.settings import AdapterSettings
from ray_jobs.config import BenchConfig
from ray_jobs.engines.base import EngineBackend, host_environment
from ray_jobs.load import LoadGenerator, RequestLog
from ray_jobs.requests_table import requests_table
from ray_jobs.result import RunResult
from ray_jobs.trace import Trace, TraceRequest

SETTLE_S = 30.0  # how long the engine may take to abort what a deadline left behind, or to take new settings


@dataclass(frozen=True)
class Sent:
    """What the client saw of one run. Times in seconds since the epoch."""

    logs: list[RequestLog]
    status: str
    started_t: float
    finished_t: float


class LiveEngine(EngineBackend):
    """A real engine as `self.engine`, which the adapter's control file steers."""

    engine: Any

    @property
    def control(self) -> Path:
        return self.folder / "control.json"

    async def stop(self) -> None:
        await asyncio.to_thread(self.engine.shutdown)

    @abstractmethod
    def _generate(self, request: TraceRequest) -> AsyncIterator[int]:
        """See `ray_jobs.load.Generate`."""

    @abstractmethod
    def _unfinished(self) -> int:
        """Requests the engine has not ended."""

    def _environment(self, engine: str, version: str, scheduler: str) -> dict[str, Any]:
        import torch

        return host_environment() | {
            "engine": engine,
            "engine_version": version,
            "scheduler": scheduler,
            "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        }

    async def _warm_up(self) -> None:
        """A few requests of growing length, so that the first run does not pay for first calls."""

        async def drain(request: TraceRequest) -> None:
            async for _ in self._generate(request):
                pass

        longest = min(self.config.max_model_len // 2, 1024)
        generator = np.random.default_rng(0)
        for tokens in (16, longest // 4, longest):
            prompt = generator.integers(3, self.config.vocab_size, tokens, dtype=np.int32)
            requests = [TraceRequest(f"warm-up-{tokens}-{i}", 0.0, prompt, 8, 8) for i in range(4)]
            await asyncio.gather(*(drain(request) for request in requests))

    async def _send(self, trace: Trace, job: BenchConfig) -> Sent:
        """Sends the trace, and waits until the engine has aborted what a deadline left behind."""
        load = LoadGenerator(trace, self._generate, job.run.request_timeout_s, job.run.timeout_s)
        started_t = time.time()
        status = await load.run()
        await self._settle()
        return Sent(load.logs, status, started_t, time.time())

    async def _settle(self) -> None:
        deadline = time.monotonic() + SETTLE_S
        while self._unfinished() and time.monotonic() < deadline:
            await asyncio.sleep(0.05)


def read_result(settings: AdapterSettings, sent: Sent) -> RunResult:
    """What a run left: the client's logs and the adapter's records; raises if another strategy was installed."""
    events = read_events(settings.events_path)
    installed = next((event for event in events if event["type"] == "run_start"), None)
    if installed is None or installed["run_id"] != settings.run_id:
        raise RuntimeError(
            f"strategy {settings.strategy!r} was not installed: no run_start record of this run"
        )
    return RunResult(
        status=sent.status,
        requests=requests_table(sent.logs, events),
        events=events,
        steps=pd.DataFrame(read_events(settings.steps_path)),
        started_t=sent.started_t,
        finished_t=sent.finished_t,
    )
