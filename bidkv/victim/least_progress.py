"""The request that has generated least goes first."""

from __future__ import annotations

from bidkv.request import RequestState
from bidkv.victim.base import ScoredVictim


class LeastProgress(ScoredVictim):
    """Evicts the fewest output tokens."""

    name = "least-progress"
    source = "A_min, arXiv 2508.14544"

    def score(self, request: RequestState, now: float) -> int:
        return -request.output_tokens
