"""The largest footprint first: frees most KV, whatever it costs."""

from __future__ import annotations

from bidkv.request import RequestState
from bidkv.victim.base import ScoredVictim


class Largest(ScoredVictim):
    """Evicts the most computed tokens."""

    name = "largest"
    source = "BidKV seed baseline"

    def score(self, request: RequestState, now: float) -> int:
        return request.computed_tokens
