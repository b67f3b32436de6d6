"""Simulated vLLM: its real scheduler and KV cache manager; model execution and time are simulated."""

from __future__ import annotations

import asyncio
from typing import Any

import vllm

from ray_jobs.engines.job import JobConfig
from ray_jobs.engines.sim.backend import SimulatedBackend, result_of
from ray_jobs.engines.sim.build import build_parts
from ray_jobs.engines.sim.disaggregated.simulate import Sides, simulate_disaggregated
from ray_jobs.engines.sim.kv_events import with_kv_events
from ray_jobs.engines.sim.simulate import simulate
from ray_jobs.engines.sim.simulate_fleet import simulate_fleet
from ray_jobs.workload.trace import Trace
from tracking.result import RunResult


class Backend(SimulatedBackend):
    async def start(self) -> dict[str, Any]:
        self.parts = await asyncio.to_thread(build_parts, self.config, self.folder)
        sim = self.config.sim
        if self.config.replicas > 1 and self.config.router.rule.hears:
            with_kv_events(self.parts)  # a model that cannot tell is refused here, and not in each run
        return self._environment(
            vllm.__version__,
            sim.async_scheduling,
            sim.calibration_for("vllm"),
            self.parts.kv_cache_config.num_blocks,
        )

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
        return result_of(outcome)
