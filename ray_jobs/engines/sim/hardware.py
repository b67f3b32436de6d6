"""What a device can do at best, from its maker's data sheet."""

from __future__ import annotations

from dataclasses import dataclass

from omegaconf import MISSING

from tracking.errors import require


@dataclass
class Hardware:
    """Peaks of one device: FLOP/s, bytes/s and bytes; `source` says who gives them."""

    name: str = MISSING
    flops: float = MISSING  # dense matrix FLOP/s in the model's dtype, without sparsity
    memory_bandwidth: float = MISSING  # bytes/s
    memory: float = MISSING  # bytes
    link_bandwidth: float | None = None  # bytes/s in one direction to the other devices of a model
    host_bandwidth: float | None = None  # bytes/s in one direction between the device and host memory (PCIe)
    source: str = MISSING
    nominal: bool = False  # the peaks are orders of magnitude, not a data sheet's: efficiencies may pass 1

    def __post_init__(self) -> None:
        for name in ("flops", "memory_bandwidth", "memory"):
            require(getattr(self, name) > 0, f"engine.sim.hardware.{name}", getattr(self, name), "> 0")
        for name in ("link_bandwidth", "host_bandwidth"):
            value = getattr(self, name)
            require(value is None or value > 0, f"engine.sim.hardware.{name}", value, "> 0 or null")
