"""Who came first goes first: the engine's default."""

from __future__ import annotations

from bidkv.admission.base import AdmissionPolicy
from bidkv.request import RequestState


class Fcfs(AdmissionPolicy):
    """First come, first served: vLLM's default."""

    name = "fcfs"
    source = "vLLM v1 default"

    def key(self, request: RequestState, now: float = 0.0) -> tuple[float, ...]:
        return ()  # in the order of joining
