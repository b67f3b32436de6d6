"""What all simulated engines offer the benchmark alike."""

from __future__ import annotations

from typing import Any

from ray_jobs.engines.shared.base import EngineBackend, host_environment
from ray_jobs.engines.shared.requests_table import requests_table
from ray_jobs.engines.sim.outcome import Outcome
from tracking.result import RunResult


class SimulatedBackend(EngineBackend):
    """Times in its results are virtual and start at 0; the same job gives the same records, byte for byte."""

    async def stop(self) -> None:
        """Nothing runs between runs."""

    def _environment(self, version: str, overlaps: bool, calibration: str, num_blocks: int) -> dict[str, Any]:
        """`overlaps`: a step is scheduled while another one runs; `calibration` says what step times are from."""
        sim = self.config.sim
        devices = sim.model_shape.tensor_parallel
        return host_environment() | {
            "engine": self.config.kind,
            "engine_version": version,
            "scheduler": "async" if overlaps else "sync",
            "device": f"simulated {sim.hardware.name}" + (f" x{devices}" if devices > 1 else ""),
            "model_shape": sim.model_shape.name,
            "calibration": calibration,
            "num_blocks": num_blocks,
        }


def result_of(outcome: Outcome) -> RunResult:
    return RunResult(
        status=outcome.status,
        requests=requests_table(outcome.logs, outcome.events),
        events=outcome.events,
        steps=outcome.steps,
        started_t=0.0,
        finished_t=outcome.duration_s,
    )
