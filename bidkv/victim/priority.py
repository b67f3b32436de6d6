"""Who is least important, and latest, is evicted: vLLM's priority scheduling."""

from __future__ import annotations

from bidkv.request import RequestState
from bidkv.victim.base import ScoredVictim


class PriorityVictim(ScoredVictim):
    """Evicts the largest (priority, arrival); a larger priority number is less important."""

    name = "priority"
    source = "vLLM v1 scheduler, priority policy"

    def score(self, request: RequestState, now: float) -> tuple[int, float]:
        return (request.priority, request.arrival)
