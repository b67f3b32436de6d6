"""A clairvoyant reference: the request with most output still to come goes first."""

from __future__ import annotations

from bidkv.errors import BidValidationError
from bidkv.request import RequestState
from bidkv.strategies.admission import Fcfs
from bidkv.strategies.base import ScoredVictim, Strategy


class SrptOracle(ScoredVictim):
    """Evicts the most remaining output tokens (keeps the shortest remaining processing time).

    Raises `BidValidationError` where the true output length is not known.
    """

    name = "srpt_oracle"
    source = "clairvoyant reference (SRPT)"
    oracle = True

    def score(self, request: RequestState, now: float) -> float:
        return remaining_tokens(self.name, request)


class SrptOracleStrategy(Strategy):
    name = "srpt_oracle"
    admission_class = Fcfs
    victim_class = SrptOracle


def remaining_tokens(policy: str, request: RequestState) -> int:
    """Output tokens still to come, from the true length that only oracle policies may see."""
    if request.true_output_tokens is None:
        raise BidValidationError(
            f"{policy}: true_output_tokens of request {request.request_id!r} is not known"
        )
    return request.true_output_tokens - request.output_tokens
