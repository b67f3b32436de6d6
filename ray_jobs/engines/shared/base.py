"""What every engine offers the benchmark: start, run a trace under a strategy, stop."""

from __future__ import annotations

import os
import platform
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

from bidkv.adapters.shared.facts import DEADLINE_S
from bidkv.adapters.shared.settings import AdapterSettings
from ray_jobs.engines.config import EngineConfig
from ray_jobs.engines.job import JobConfig
from ray_jobs.workload.trace import Trace, TraceRequest
from tracking.result import RunResult


class EngineBackend(ABC):
    """An engine in this process (or a child of it). One run at a time."""

    def __init__(self, config: EngineConfig, folder: Path):
        self.config = config
        self.folder = folder  # scratch space; the owner removes it after `stop`

    @abstractmethod
    async def start(self) -> dict[str, Any]:
        """Starts the engine, warms it up and returns its environment (versions, device)."""

    @abstractmethod
    async def run(self, trace: Trace, job: JobConfig, run_id: str) -> RunResult:
        """Runs the trace once under the job's strategy."""

    @abstractmethod
    async def stop(self) -> None:
        """Ends the engine and every process it started."""

    def adapter_settings(self, job: JobConfig, run_id: str) -> AdapterSettings:
        """The strategy and record files of one run, as the engine's adapter wants them."""
        strategy = job.strategy
        return AdapterSettings(
            strategy=strategy.name,
            admission=strategy.admission,
            victim=strategy.victim,
            params=dict(strategy.params),
            admission_params=dict(strategy.admission_params),
            retention=strategy.retention,
            retention_params=dict(strategy.retention_params),
            kill_switch=strategy.kill_switch,
            seed=job.seed,
            run_id=run_id,
            events_path=str(self.folder / f"{run_id}.events.jsonl"),
            steps_path=str(self.folder / f"{run_id}.steps.jsonl"),
            log_schedule=job.run.log_schedule,
            client_facts=True,  # a trace says what its clients declare
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


def request_facts(request: TraceRequest, now: float, pause_s: float | None = None) -> dict[str, Any]:
    """What the client declares about a request it sends at `now`, for the adapter (`extra_args["bidkv"]`). `pause_s`
    is the truth about when its session goes on (see `Trace.pauses`), for oracles."""
    facts: dict[str, Any] = {"max_tokens": request.max_tokens}
    if request.deadline_s is not None:
        facts["deadline"] = now + request.deadline_s
    if request.session:
        facts |= {"session": request.session, "turn": request.turn}
    if pause_s is not None:
        facts["true_pause_s"] = min(pause_s, DEADLINE_S)
    return facts
