"""Admission orders: who leaves the waiting queue first."""

from __future__ import annotations

from bidkv.request import RequestState
from bidkv.strategies.base import AdmissionPolicy


class Fcfs(AdmissionPolicy):
    """First come, first served: vLLM's default."""

    name = "fcfs"
    source = "vLLM v1 default"

    def key(self, request: RequestState, now: float = 0.0) -> tuple[float, ...]:
        return ()  # in the order of joining


class Sjf(AdmissionPolicy):
    """Shortest declared job first: prompt tokens plus declared `max_tokens`, then arrival."""

    name = "sjf"
    source = "BidKV seed design"

    def key(self, request: RequestState, now: float = 0.0) -> tuple[float, ...]:
        return (request.prompt_tokens + request.max_tokens, request.arrival)


class PriorityAdmission(AdmissionPolicy):
    """Smallest (priority, arrival) first, as vLLM's priority scheduling."""

    name = "priority"
    source = "vLLM's priority scheduling"
    preempted_first = False  # else an unimportant one that was preempted goes before an important one

    def key(self, request: RequestState, now: float = 0.0) -> tuple[float, ...]:
        return (request.priority, request.arrival)
