"""Simulated SGLang: its real scheduler, radix tree and allocators; model execution and time are simulated."""

from __future__ import annotations

import asyncio
from importlib.util import find_spec
from typing import Any

from ray_jobs.engines.job import JobConfig
from ray_jobs.engines.shared.base import EngineBackend, host_environment
from ray_jobs.engines.shared.requests_table import requests_table
from ray_jobs.engines.sim.sglang.shim import put_first
from ray_jobs.workload.trace import Trace
from tracking.result import RunResult


class Backend(EngineBackend):
    """Times in its results are virtual and start at 0; the same job gives the same records, byte for byte."""

    async def start(self) -> dict[str, Any]:
        """Raises ValueError where SGLang is not installed, and what `SimulatedSGLang` raises."""
        if find_spec("sglang") is None:
            raise ValueError(
                f"engine.kind={self.config.kind!r}: SGLang is not installed here: make env-sglang"
            )
        put_first()
        from ray_jobs.engines.sim.sglang.engine import SimulatedSGLang

        self.engine = await asyncio.to_thread(SimulatedSGLang, self.config, self.folder)
        scheduler, sim = self.engine.scheduler, self.config.sim
        devices = sim.model_shape.tensor_parallel
        return host_environment() | {
            "engine": "sglang_sim",
            "engine_version": self.engine.version,
            "scheduler": "async" if scheduler.enable_overlap else "sync",
            "device": f"simulated {sim.hardware.name}" + (f" x{devices}" if devices > 1 else ""),
            "model_shape": sim.model_shape.name,
            "calibration": sim.calibration_for("sglang"),
            "num_blocks": scheduler.max_total_num_tokens // scheduler.page_size,
        }

    async def run(self, trace: Trace, job: JobConfig, run_id: str) -> RunResult:
        from ray_jobs.engines.sim.sglang.simulate import simulate

        settings = self.adapter_settings(job, run_id)
        limits = (job.run.request_timeout_s, job.run.timeout_s)
        outcome = await asyncio.to_thread(simulate, self.engine, self.config.sim, trace, settings, *limits)
        return RunResult(
            status=outcome.status,
            requests=requests_table(outcome.logs, outcome.events),
            events=outcome.events,
            steps=outcome.steps,
            started_t=0.0,
            finished_t=outcome.duration_s,
        )

    async def stop(self) -> None:
        """Nothing runs between runs."""
