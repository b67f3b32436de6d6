from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ray_jobs.engines.routers.base import Known, Router

if TYPE_CHECKING:
    from ray_jobs.workload.trace import TraceRequest


class PowerOfTwo(Router):
    """The shorter queue of two that are drawn."""

    name = "power-of-two"
    source = "Ray Serve's default (Mitzenmacher 2001)"

    def choose(self, request: TraceRequest, known: Sequence[Known], now: float) -> int:
        return self.shortest(known, self.random.sample(range(self.replicas), min(2, self.replicas)))
