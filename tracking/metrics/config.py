"""Configuration of what a request must meet: `slo`."""

from __future__ import annotations

from dataclasses import dataclass

from tracking.errors import require


@dataclass
class SloConfig:
    """The service-level objective a request must meet to count as goodput."""

    ttft_s: float = 2.0
    tpot_s: float = 0.1

    def __post_init__(self) -> None:
        require(self.ttft_s > 0, "slo.ttft_s", self.ttft_s, "> 0")
        require(self.tpot_s > 0, "slo.tpot_s", self.tpot_s, "> 0")
