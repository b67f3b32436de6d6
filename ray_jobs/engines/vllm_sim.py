"""Simulated vLLM: its real scheduler and KV cache manager; model execution and time are simulated."""

from __future__ import annotations

import asyncio
from typing import Any

from bidkv.adapters.events import read_events
from ray_jobs.config import BenchConfig
from ray_jobs.engines.base import EngineBackend, host_environment
from ray_jobs.requests_table import requests_table
from ray_jobs.result import RunResult
from ray_jobs.sim.build import SchedulerParts, build_parts
from ray_jobs.sim.clients import VirtualClients
from ray_jobs.sim.clock import VirtualClock
from ray_jobs.sim.roofline import StepTimeModel
from ray_jobs.trace import Trace


class Backend(EngineBackend):
    """Times in its results are virtual and start at 0; the same job gives the same records, byte for byte."""

    async def start(self) -> dict[str, Any]:
        import vllm

        self.parts: SchedulerParts = await asyncio.to_thread(build_parts, self.config, self.folder)
        sim = self.config.sim
        self.model = StepTimeModel(sim.model_shape, sim.hardware, sim.calibration)
        devices = f" x{sim.model_shape.tensor_parallel}" if sim.model_shape.tensor_parallel > 1 else ""
        return host_environment() | {
            "engine": "vllm_sim",
            "engine_version": vllm.__version__,
            "scheduler": "async" if sim.async_scheduling else "sync",
            "device": f"simulated {sim.hardware.name}{devices}",
            "model_shape": sim.model_shape.name,
            "calibration": sim.calibration.name,
            "calibrated": sim.calibration.fitted,
            "num_blocks": self.parts.kv_cache_config.num_blocks,
        }

    async def run(self, trace: Trace, job: BenchConfig, run_id: str) -> RunResult:
        return await asyncio.to_thread(self._run, trace, job, run_id)

    async def stop(self) -> None:
        """Nothing runs between runs."""

    def _run(self, trace: Trace, job: BenchConfig, run_id: str) -> RunResult:
        from ray_jobs.sim.check import check_conservation, check_finished
        from ray_jobs.sim.loop import Simulation
        from ray_jobs.sim.scheduler import make_scheduler

        sim = self.config.sim
        settings = self.adapter_settings(job, run_id)
        clock = VirtualClock()
        scheduler = make_scheduler(self.parts, settings.to_dict(), clock, sim.shortcuts)
        steps = scheduler.step_columns
        clients = VirtualClients(trace, job.run.request_timeout_s)
        simulation = Simulation(
            self.parts, scheduler, clients, self.model, clock, job.run.timeout_s, sim.wall_timeout_s,
            check_conservation if sim.check else None,
        )  # fmt: skip
        try:
            status = simulation.run()
        finally:
            scheduler.shutdown()
        events = read_events(settings.events_path)
        if sim.check:
            for event in events:
                if event["type"] == "request" and event["reason"] == "length":
                    check_finished(event)
        return RunResult(
            status=status,
            requests=requests_table(clients.logs, events),
            events=events,
            steps=steps.frame(),
            started_t=0.0,
            finished_t=clock.now,
        )
