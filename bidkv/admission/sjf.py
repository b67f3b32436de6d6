"""Who declares least goes first."""

from __future__ import annotations

from bidkv.admission.base import AdmissionPolicy
from bidkv.request import RequestState


class Sjf(AdmissionPolicy):
    """Shortest declared job first: prompt tokens plus declared `max_tokens`, then arrival."""

    name = "sjf"
    source = "BidKV seed design"

    def key(self, request: RequestState, now: float = 0.0) -> tuple[float, ...]:
        return (request.prompt_tokens + request.max_tokens, request.arrival)
