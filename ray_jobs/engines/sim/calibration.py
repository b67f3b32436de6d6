"""How far a device stays below its peaks: the fitted part of the step-time model."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tracking.errors import require

EFFICIENCIES = (
    "compute_efficiency",
    "bandwidth_efficiency",
    "attention_compute_efficiency",
    "attention_bandwidth_efficiency",
    "link_efficiency",
)
OVERHEADS = ("step_overhead_s", "request_overhead_s", "prefill_overhead_s", "prefill_step_s")


@dataclass
class Calibration:
    """Shares of a device's peaks that a model's layers reach, and what a step costs beside them.

    The default is a guess for a server GPU: nobody measured it, and `fitted` says so.
    """

    name: str = "uncalibrated"
    fitted: bool = False  # to measured steps; `origin` says which
    compute_efficiency: float = 0.6  # of peak FLOP/s, in the projections and feed-forward layers
    bandwidth_efficiency: float = 0.8  # of memory bandwidth, reading weights
    attention_compute_efficiency: float = 0.4
    attention_bandwidth_efficiency: float = 0.6  # reading the KV cache
    link_efficiency: float = 0.6  # of the bandwidth between devices
    host_efficiency: float = 0.8  # of the bandwidth to host memory; not fitted: step logs do not show it
    step_overhead_s: float = 1.5e-3  # every step: launches, sampling, scheduling that is not hidden
    request_overhead_s: float = 5e-6  # every scheduled request
    prefill_overhead_s: float = 0.0  # every scheduled request that prefills, besides
    prefill_step_s: float = (
        0.0  # at least this for the layers of a step with a prefill: launches without a CUDA graph
    )
    origin: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in (*EFFICIENCIES, "host_efficiency"):  # above 1 where a peak is only nominal
            require(
                0 < getattr(self, name) <= 100,
                f"engine.sim.calibration.{name}",
                getattr(self, name),
                "in (0, 100]",
            )
        for name in OVERHEADS:
            require(getattr(self, name) >= 0, f"engine.sim.calibration.{name}", getattr(self, name), ">= 0")
