from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ray_jobs.engines.routers.base import Known, Router

if TYPE_CHECKING:
    from ray_jobs.workload.trace import TraceRequest


class LeastRequests(Router):
    """The shortest queue of all."""

    name = "least-requests"
    source = "least outstanding requests of Envoy and NGINX; vLLM's own data-parallel balancer is alike"

    def choose(self, request: TraceRequest, known: Sequence[Known], now: float) -> int:
        return self.shortest(known)
