"""What a device can do at best, from its maker's data sheet."""

from __future__ import annotations

from dataclasses import dataclass

from omegaconf import MISSING

from ray_jobs.workload_config import require


@dataclass
class Hardware:
    """Peaks of one device: FLOP/s, bytes/s and bytes; `source` says who gives them."""

    name: str = MISSING
    flops: float = MISSING  # dense matrix FLOP/s in the model's dtype, without sparsity
    memory_bandwidth: float = MISSING  # bytes/s
    memory: float = MISSING  # bytes
    link_bandwidth: float | None = None  # bytes/s in one direction to the other devices of a model
    source: str = MISSING
    nominal: bool = False  # the peaks are orders of magnitude, not a data sheet's: efficiencies may pass 1

    def __post_init__(self) -> None:
        for name in ("flops", "memory_bandwidth", "memory"):
            require(getattr(self, name) > 0, f"engine.sim.hardware.{name}", getattr(self, name), "> 0")
        if self.link_bandwidth is not None:
            require(
                self.link_bandwidth > 0,
                "engine.sim.hardware.link_bandwidth",
                self.link_bandwidth,
                "> 0 or null",
            )
