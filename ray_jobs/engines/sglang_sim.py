"""Simulated SGLang: its real scheduler, radix tree and allocators; model execution and time are simulated."""

from __future__ import annotations

import asyncio
from importlib.util import find_spec
from typing import Any

from ray_jobs.engines.job import JobConfig
from ray_jobs.engines.sim.backend import SimulatedBackend, result_of
from ray_jobs.engines.sim.sglang.shim import put_first
from ray_jobs.workload.trace import Trace
from tracking.result import RunResult


class Backend(SimulatedBackend):
    async def start(self) -> dict[str, Any]:
        """Raises ValueError where SGLang is not installed, and what `SimulatedSGLang` raises."""
        if find_spec("sglang") is None:
            raise ValueError(
                f"engine.kind={self.config.kind!r}: SGLang is not installed here: make env-sglang"
            )
        put_first()
        from ray_jobs.engines.sim.sglang.engine import SimulatedSGLang

        self.engine = await asyncio.to_thread(SimulatedSGLang, self.config, self.folder)
        scheduler = self.engine.scheduler
        return self._environment(
            self.engine.version,
            scheduler.enable_overlap,
            self.config.sim.calibration_for("sglang"),
            scheduler.max_total_num_tokens // scheduler.page_size,
        )

    async def run(self, trace: Trace, job: JobConfig, run_id: str) -> RunResult:
        from ray_jobs.engines.sim.sglang.simulate import simulate

        settings = self.adapter_settings(job, run_id)
        limits = (job.run.request_timeout_s, job.run.timeout_s)
        outcome = await asyncio.to_thread(simulate, self.engine, self.config.sim, trace, settings, *limits)
        return result_of(outcome)
