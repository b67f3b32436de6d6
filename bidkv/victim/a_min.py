"""Who has least to come at least is evicted: A_min's victim (arXiv 2508.14544)."""

from __future__ import annotations

from bidkv.lengths.lower_bounds import LowerBounds
from bidkv.request import FinishedRequest, RequestState
from bidkv.victim.base import ScoredVictim


class AMinVictim(ScoredVictim):
    """Evicts the smallest lower bound; ties go to the last admitted."""

    name = "a-min"
    source = "A_min, arXiv 2508.14544"

    def __init__(self, share: float = 0.05):
        self.bounds = LowerBounds(self.name, share)
        self.lengths = self.bounds.lengths

    def score(self, request: RequestState, now: float) -> float:
        return -self.bounds.of(request)

    def observe(self, finished: FinishedRequest) -> None:
        self.bounds.observe(finished)
