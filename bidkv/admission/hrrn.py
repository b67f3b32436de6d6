"""Highest response ratio next: waiting counts in units of a request's own length."""

from __future__ import annotations

from bidkv.admission.base import AdmissionPolicy
from bidkv.lengths.estimates import make_lengths
from bidkv.request import FinishedRequest, RequestState


class Hrrn(AdmissionPolicy):
    """Largest (waited + service) / service first, service = output tokens * seconds a step."""

    name = "hrrn"
    source = "Brinch Hansen 1971; asked for in SGLang issue 32911"
    resorts = True

    def __init__(self, lengths: str = "declared"):
        self.lengths = make_lengths(self.name, lengths)

    def key(self, request: RequestState, now: float = 0.0) -> tuple[float, ...]:
        service = self.lengths.mean(request) * self.pool.seconds_per_step
        return (-(now - request.arrival) / service, service)

    def observe(self, finished: FinishedRequest) -> None:
        self.lengths.observe(finished)
