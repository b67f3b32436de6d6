"""vLLM's priority scheduling: the least important, latest request goes first."""

from __future__ import annotations

from bidkv.request import RequestState
from bidkv.strategies.admission import PriorityAdmission
from bidkv.strategies.base import ScoredVictim, Strategy


class PriorityVictim(ScoredVictim):
    """Evicts the largest (priority, arrival); a larger priority number is less important."""

    name = "priority"
    source = "vLLM v1 scheduler, priority policy"

    def score(self, request: RequestState, now: float) -> tuple[int, float]:
        return (request.priority, request.arrival)


class PriorityStrategy(Strategy):
    name = "priority"
    admission_class = PriorityAdmission
    victim_class = PriorityVictim
