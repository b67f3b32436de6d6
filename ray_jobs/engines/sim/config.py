"""Configuration of the simulated engine: `engine.sim`."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf

from omegaconf import MISSING

from ray_jobs.engines.sim.calibration import Calibration
from ray_jobs.engines.sim.hardware import Hardware
from ray_jobs.engines.sim.scheduling import SchedulingCost
from ray_jobs.engines.sim.shape import ModelShape
from tracking.errors import require


@dataclass
class SimConfig:
    """A model's shape, the device it is said to run on, and how the simulation runs."""

    model_shape: ModelShape = MISSING
    hardware: Hardware = MISSING
    calibration: Calibration = field(default_factory=Calibration)
    scheduling: SchedulingCost | None = None  # CPU time of strategies; null = they take none
    kv_offload_pools: float | None = (
        None  # engine.kv_offload_gib, said in device KV caches: 2 = twice as much
    )
    async_scheduling: bool = True  # vLLM's default on GPUs: a step is scheduled while another one runs
    reserved_bytes: float = 3e9  # of device memory, for activations and CUDA graphs
    shortcuts: bool = True  # leave out scheduler work whose result nobody reads here; decisions are the same
    check: bool = False  # verify every step that no block and no token is lost; slow
    wall_timeout_s: float = 1800.0  # real seconds that one run may take

    def __post_init__(self) -> None:
        require(self.reserved_bytes >= 0, "engine.sim.reserved_bytes", self.reserved_bytes, ">= 0")
        pools = self.kv_offload_pools
        require(pools is None or 0 <= pools < inf, "engine.sim.kv_offload_pools", pools, ">= 0, or null")
        require(self.wall_timeout_s > 0, "engine.sim.wall_timeout_s", self.wall_timeout_s, "> 0")

    def measured(self, engine: str) -> bool:
        """Whether the step times were fitted to this model on this device, in steps of `engine`: "vllm" or "sglang"."""
        return self.calibration_for(engine) == self.calibration.name

    def calibration_for(self, engine: str) -> str:
        """The calibration's name, and what makes its times a guess for this model on this device, in steps of `engine`."""
        fit = self.calibration
        if not fit.fitted:
            return f"{fit.name} (nobody measured it)"
        shape, hardware, of = (fit.origin.get(key) for key in ("model_shape", "hardware", "engine"))
        if (shape, hardware) != (self.model_shape.name, self.hardware.name):
            return f"{fit.name} (measured with {shape} on {hardware}, not with this model and device)"
        if of is not None and not str(of).startswith(engine):
            return f"{fit.name} (measured with steps of {of}, not of {engine})"
        return fit.name
