"""Configuration of engines that prefill for others that decode: `engine.disaggregation`."""

from __future__ import annotations

import math
from dataclasses import dataclass

from tracking.errors import require

KEY = "engine.disaggregation"


@dataclass
class DisaggregationConfig:
    """How many engines prefill, how many decode, and what each device of a decode engine pulls KV at. None of both: every
    engine does both."""

    prefill: int = 0
    decode: int = 0
    gb_s: float = 50.0  # 1e9 bytes/s for each device; a DGX H100 has one 400 Gb/s ConnectX-7 port a GPU (its data sheet)

    def __post_init__(self) -> None:
        for key in ("prefill", "decode"):
            value = getattr(self, key)
            require(0 <= value <= 1024, f"{KEY}.{key}", value, "from 0 to 1024")
        for key, other in (("prefill", "decode"), ("decode", "prefill")):
            value, beside = getattr(self, key), getattr(self, other)
            require(
                value > 0 or beside == 0, f"{KEY}.{key}", value, f"at least 1 beside {KEY}.{other}={beside}"
            )
        require(0 < self.gb_s < math.inf, f"{KEY}.gb_s", self.gb_s, "> 0 and finite, in GB/s")

    @property
    def engines(self) -> int:
        """Of both kinds; 0 where nothing is disaggregated."""
        return self.prefill + self.decode
