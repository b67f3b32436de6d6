"""A clairvoyant reference: the request with most output still to come goes first."""

from __future__ import annotations

from bidkv.request import RequestState
from bidkv.victim.base import ScoredVictim
from bidkv.victim.remaining import remaining_tokens


class SrptOracle(ScoredVictim):
    """Evicts the most remaining output tokens (keeps the shortest remaining processing time).

    Raises `BidValidationError` where the true output length is not known.
    """

    name = "srpt_oracle"
    source = "clairvoyant reference (SRPT)"
    oracle = True

    def score(self, request: RequestState, now: float) -> float:
        return remaining_tokens(self.name, request)
