from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ray_jobs.engines.routers.base import Known, Router

if TYPE_CHECKING:
    from ray_jobs.workload.trace import TraceRequest


class RoundRobin(Router):
    """One after the other."""

    name = "round-robin"
    source = "any load balancer"
    looks = False
    _next = 0

    def choose(self, request: TraceRequest, known: Sequence[Known], now: float) -> int:
        chosen, self._next = self._next, (self._next + 1) % self.replicas
        return chosen
