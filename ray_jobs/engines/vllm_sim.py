"""Simulated vLLM: its real scheduler and KV cache manager; model execution and time are simulated."""

from __future__ import annotations

import asyncio
from typing import Any

import vllm

from ray_jobs.engines.job import JobConfig
from ray_jobs.engines.shared.base import EngineBackend, host_environment
from ray_jobs.engines.shared.requests_table import requests_table
from ray_jobs.engines.sim.build import build_parts
from ray_jobs.engines.sim.disaggregated.simulate import Sides, simulate_disaggregated
from ray_jobs.engines.sim.simulate import simulate
from ray_jobs.engines.sim.simulate_fleet import simulate_fleet
from ray_jobs.workload.trace import Trace
from tracking.result import RunResult


class Backend(EngineBackend):
    """Times in its results are virtual and start at 0; the same job gives the same records, byte for byte."""

    async def start(self) -> dict[str, Any]:
        self.parts = await asyncio.to_thread(build_parts, self.config, self.folder)
        sim = self.config.sim
        devices = sim.model_shape.tensor_parallel
        return host_environment() | {
            "engine": "vllm_sim",
            "engine_version": vllm.__version__,
            "scheduler": "async" if sim.async_scheduling else "sync",
            "device": f"simulated {sim.hardware.name}" + (f" x{devices}" if devices > 1 else ""),
            "model_shape": sim.model_shape.name,
            "calibration": sim.calibration_label,
            "num_blocks": self.parts.kv_cache_config.num_blocks,
        }

    async def run(self, trace: Trace, job: JobConfig, run_id: str) -> RunResult:
        what = (self.config.sim, trace, self.adapter_settings(job, run_id))
        limits = (job.run.request_timeout_s, job.run.timeout_s)
        sides, router = self.config.disaggregation, self.config.router
        if sides.engines:
            parts = Sides(self.parts, self.parts)
            outcome = await asyncio.to_thread(simulate_disaggregated, parts, *what, sides, router, *limits)
        elif self.config.replicas > 1:
            count = self.config.replicas
            outcome = await asyncio.to_thread(simulate_fleet, self.parts, *what, count, router, *limits)
        else:
            outcome = await asyncio.to_thread(simulate, self.parts, *what, *limits)
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
