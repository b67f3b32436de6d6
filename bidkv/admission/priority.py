"""Who is most important goes first."""

from __future__ import annotations

from bidkv.admission.base import AdmissionPolicy
from bidkv.request import RequestState


class PriorityAdmission(AdmissionPolicy):
    """Smallest (priority, arrival) first, as vLLM's priority scheduling."""

    name = "priority"
    source = "vLLM's priority scheduling"
    preempted_first = False  # else an unimportant one that was preempted goes before an important one

    def key(self, request: RequestState, now: float = 0.0) -> tuple[float, ...]:
        return (request.priority, request.arrival)
