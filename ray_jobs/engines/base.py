"""What every engine offers the benchmark: start, run a trace under a strategy, stop."""

from __future__ import annotations

import asyncio
import os
import platform
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bidkv.adapters.events import read_events
from bidkv.adapters.settings import AdapterSettings
from ray_jobs.config import BenchConfig, EngineConfig
from ray_jobs.load import Generate, LoadGenerator
from ray_jobs.requests_table import requests_table
from ray_jobs.result import RunResult
from ray_jobs.trace import Trace, TraceRequest


class EngineBackend(ABC):
    """An engine in this process (or a child of it). One run at a time."""

    def __init__(self, config: EngineConfig, folder: Path):
        self.config = config
        self.folder = folder  # scratch space; the owner removes it after `stop`

    @abstractmethod
    async def start(self) -> dict[str, Any]:
        """Starts the engine, warms it up and returns its environment (versions, device)."""

    @abstractmethod
    async def run(self, trace: Trace, job: BenchConfig, run_id: str) -> RunResult:
        """Runs the trace once under the job's strategy."""

    @abstractmethod
    async def stop(self) -> None:
        """Ends the engine and every process it started."""

    def adapter_settings(self, job: BenchConfig, run_id: str) -> AdapterSettings:
        """The strategy and record files of one run, as the engine's adapter wants them."""
        strategy = job.strategy
        return AdapterSettings(
            strategy=strategy.name,
            admission=strategy.admission,
            victim=strategy.victim,
            params=dict(strategy.params),
            seed=job.seed,
            run_id=run_id,
            events_path=str(self.folder / f"{run_id}.events.jsonl"),
            steps_path=str(self.folder / f"{run_id}.steps.jsonl"),
            log_schedule=job.run.log_schedule,
        )


def host_environment() -> dict[str, Any]:
    """The machine this process runs on: CPU, core count, operating system, Python."""
    cpu = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [
            line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line
        ]
        cpu = names[0] if names else cpu
    return {
        "host": platform.node(),
        "cpu": cpu,
        "cpus": len(os.sched_getaffinity(0)),
        "os": platform.platform(),
        "python": platform.python_version(),
    }


def request_facts(request: TraceRequest, now: float) -> dict[str, Any]:
    """What the client declares about a request it sends at `now`, for the adapter (`extra_args["bidkv"]`)."""
    facts: dict[str, Any] = {"max_tokens": request.max_tokens}
    if request.deadline_s is not None:
        facts["deadline"] = now + request.deadline_s
    return facts


def read_result(
    settings: AdapterSettings, load: LoadGenerator, status: str, started_t: float, finished_t: float
) -> RunResult:
    """What a run left: the client's logs and the adapter's records; raises if another strategy was installed."""
    events = read_events(settings.events_path)
    installed = next((event for event in events if event["type"] == "run_start"), None)
    if installed is None or installed["run_id"] != settings.run_id:
        raise RuntimeError(
            f"strategy {settings.strategy!r} was not installed: no run_start record of this run"
        )
    return RunResult(
        status=status,
        requests=requests_table(load.logs, events),
        events=events,
        steps=pd.DataFrame(read_events(settings.steps_path)),
        started_t=started_t,
        finished_t=finished_t,
    )


def device_name() -> str:
    """The GPU's name, or "cpu"."""
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"


async def warm_up(config: EngineConfig, generate: Generate) -> None:
    """A few requests of growing length, so that the first run does not pay for first calls."""

    async def drain(request: TraceRequest) -> None:
        async for _ in generate(request):
            pass

    longest = min(config.max_model_len // 2, 1024)
    generator = np.random.default_rng(0)
    for tokens in (16, longest // 4, longest):
        prompt = generator.integers(3, config.vocab_size, tokens, dtype=np.int32)
        requests = [TraceRequest(f"warm-up-{tokens}-{i}", 0.0, prompt, 8, 8) for i in range(4)]
        await asyncio.gather(*(drain(request) for request in requests))
