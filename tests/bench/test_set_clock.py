"""A machine's clock that is set between two runs."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace

import numpy as np
import pytest

from bidkv.adapters.shared.clock import steady_time
from ray_jobs.engines.shared.live import RealTime
from ray_jobs.workload.trace import Trace, TraceRequest


class Engine(RealTime):
    """Answers at once, and notes when by the clock that engines record by."""

    def __init__(self):
        self.ended_t = None

    async def generate(self, request):
        yield [1] * request.output_tokens
        self.ended_t = steady_time()

    async def start(self): ...

    async def stop(self): ...

    async def begin(self, settings): ...

    async def settle(self): ...

    async def end(self): ...


@pytest.mark.parametrize("set_by_s", [-3600.0, 3600.0])
def test_what_the_client_saw_stands_beside_what_the_engine_recorded(monkeypatch, set_by_s):
    request = TraceRequest("r0", 0.0, np.arange(4, dtype=np.int32), 3, 3)
    job = SimpleNamespace(
        workload=SimpleNamespace(sessions=SimpleNamespace(answers="recorded")),
        run=SimpleNamespace(request_timeout_s=5.0, timeout_s=5.0),
    )
    wall = time.time
    monkeypatch.setattr(time, "time", lambda: wall() + set_by_s)
    engine = Engine()
    sent = asyncio.run(engine._send(Trace("test", 0, (request,)), job))
    assert sent.started_t + sent.logs[0].finish_t == pytest.approx(engine.ended_t, abs=0.5)
    assert sent.finished_t >= engine.ended_t
