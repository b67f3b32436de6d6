"""Distributions that configurations draw from: token counts and durations."""

from __future__ import annotations

import math
from dataclasses import dataclass

from omegaconf import MISSING

from tracking.errors import require


@dataclass
class LengthConfig:
    """Counts drawn from a lognormal of this median and log-sigma, cut off at `min` and `max`."""

    median: float = MISSING
    sigma: float = 0.0
    min: int = 1
    max: int = MISSING

    def check(self, key: str) -> None:
        """Raises ValueError; `key` is where this config hangs."""
        require(0 <= self.sigma < math.inf, f"{key}.sigma", self.sigma, ">= 0")
        require(self.min >= 1, f"{key}.min", self.min, ">= 1")
        require(self.max >= self.min, f"{key}.max", self.max, f">= {key}.min={self.min}")
        require(
            self.min <= self.median <= self.max, f"{key}.median", self.median,
            f"from {key}.min={self.min} to {key}.max={self.max}",
        )  # fmt: skip


@dataclass
class DurationConfig:
    """Seconds drawn from a lognormal of this median and log-sigma; those above `max` become `max`."""

    median: float = MISSING
    sigma: float = 0.0
    max: float = MISSING

    def check(self, key: str) -> None:
        """Raises ValueError; `key` is where this config hangs."""
        require(0 <= self.sigma < math.inf, f"{key}.sigma", self.sigma, ">= 0")
        require(0 <= self.max < math.inf, f"{key}.max", self.max, ">= 0")
        require(0 <= self.median <= self.max, f"{key}.median", self.median, f"from 0 to {key}.max={self.max}")
