"""A clairvoyant reference: most output still to come for each token of KV that is lost."""

from __future__ import annotations

from bidkv.request import RequestState
from bidkv.victim.base import ScoredVictim
from bidkv.victim.remaining import remaining_tokens


class RatioOracle(ScoredVictim):
    """Evicts the highest remaining output tokens / computed tokens."""

    name = "ratio_oracle"
    source = "clairvoyant reference (remaining work against recomputation)"
    oracle = True

    def score(self, request: RequestState, now: float) -> float:
        return remaining_tokens(self.name, request) / max(1, request.computed_tokens)
