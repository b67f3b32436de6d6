"""Who has least to come at least goes first: A_min's order of admission (arXiv 2508.14544)."""

from __future__ import annotations

from bidkv.admission.base import AdmissionPolicy
from bidkv.lengths.lower_bounds import LowerBounds
from bidkv.request import FinishedRequest, RequestState


class AMinAdmission(AdmissionPolicy):
    """Smallest lower bound first, then arrival; preempted requests queue by theirs, which only grows."""

    name = "a-min"
    source = "A_min, arXiv 2508.14544"
    preempted_first = False

    def __init__(self, share: float = 0.05):
        self.bounds = LowerBounds(self.name, share)
        self.lengths = self.bounds.lengths

    def key(self, request: RequestState, now: float = 0.0) -> tuple[float, ...]:
        return (self.bounds.of(request), request.arrival)

    def observe(self, finished: FinishedRequest) -> None:
        self.bounds.observe(finished)
