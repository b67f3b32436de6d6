"""Configuration of the simulated engine: `engine.sim`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from omegaconf import MISSING

from ray_jobs.sim.calibration import Calibration
from ray_jobs.sim.hardware import Hardware
from ray_jobs.sim.shape import ModelShape
from ray_jobs.workload_config import require

if TYPE_CHECKING:
    from ray_jobs.config import EngineConfig


@dataclass
class SimConfig:
    """A model's shape, the device it is said to run on, and how the simulation runs."""

    model_shape: ModelShape = MISSING
    hardware: Hardware = MISSING
    calibration: Calibration = field(default_factory=Calibration)
    async_scheduling: bool = True  # vLLM's default on GPUs: a step is scheduled while another one runs
    reserved_bytes: float = 3e9  # of device memory, for activations and CUDA graphs
    shortcuts: bool = True  # leave out scheduler work whose result nobody reads here; decisions are the same
    check: bool = False  # verify every step that no block and no token is lost; slow
    wall_timeout_s: float = 1800.0  # real seconds that one run may take

    def __post_init__(self) -> None:
        require(self.reserved_bytes >= 0, "engine.sim.reserved_bytes", self.reserved_bytes, ">= 0")
        require(self.wall_timeout_s > 0, "engine.sim.wall_timeout_s", self.wall_timeout_s, "> 0")


def blocks_that_fit(engine: EngineConfig) -> int:
    """KV-cache blocks in the memory that weights and `reserved_bytes` leave of `gpu_memory_utilization`."""
    sim = engine.sim
    free = (
        sim.hardware.memory * engine.gpu_memory_utilization
        - sim.model_shape.weight_bytes
        - sim.reserved_bytes
    )
    return max(0, int(free // (sim.model_shape.kv_bytes_per_token * engine.block_size)))


def check_simulated(engine: EngineConfig) -> None:
    """Raises ValueError if `engine` cannot be simulated."""
    require(
        engine.sim is not None,
        "engine.sim",
        engine.sim,
        "given for engine.kind=vllm_sim (start from engine=vllm_sim)",
    )
    require(
        engine.tensor_parallel_size == 1, "engine.tensor_parallel_size", engine.tensor_parallel_size,
        "1 in a simulation (set engine.sim.model_shape.tensor_parallel)",
    )  # fmt: skip
    if engine.num_blocks is None:
        fit = blocks_that_fit(engine)
        require(
            (fit - 1) * engine.block_size >= engine.max_model_len,
            "engine.max_model_len", engine.max_model_len,
            f"<= {max(0, fit - 1) * engine.block_size}, the tokens that {engine.sim.hardware.name} holds beside "
            f"the weights of {engine.sim.model_shape.name}",
        )  # fmt: skip
