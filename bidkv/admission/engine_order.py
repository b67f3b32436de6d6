"""Who the engine would take goes first: its queue stays as it keeps it."""

from __future__ import annotations

from bidkv.admission.base import AdmissionPolicy
from bidkv.request import RequestState


class EngineOrder(AdmissionPolicy):
    """Leaves the waiting queue as the engine keeps it (SGLang: a preempted request queues at the end)."""

    name = "engine-order"
    source = "SGLang default"
    preempted_first = False

    def key(self, request: RequestState, now: float = 0.0) -> tuple[float, ...]:
        return ()
