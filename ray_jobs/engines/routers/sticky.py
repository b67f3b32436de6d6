from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ray_jobs.engines.routers.base import Known, Router

if TYPE_CHECKING:
    from ray_jobs.workload.trace import TraceRequest


class Sticky(Router):
    """A session stays where its first request went: to the shortest queue. So does a request without one, by itself."""

    name = "sticky"
    source = "session affinity of load balancers; the vLLM production stack's session router"

    def __init__(self, replicas: int, pool_tokens: int, seed: int):
        super().__init__(replicas, pool_tokens, seed)
        self._of_session: dict[str, int] = {}

    def choose(self, request: TraceRequest, known: Sequence[Known], now: float) -> int:
        if not request.session:
            return self.shortest(known)
        if request.session not in self._of_session:
            self._of_session[request.session] = self.shortest(known)
        return self._of_session[request.session]
