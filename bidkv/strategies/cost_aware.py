"""Most memory returned for each token to recompute, sparing requests near their end."""

from __future__ import annotations

from bidkv.errors import BidValidationError
from bidkv.request import RequestState
from bidkv.strategies.admission import Fcfs
from bidkv.strategies.base import ScoredVictim, Strategy


class CostAware(ScoredVictim):
    """Highest (reclaimable blocks / computed tokens) * (1 - output / max_tokens).

    Reclaimable blocks are those with one owner. Raises `BidValidationError` where they are not known.
    """

    name = "cost-aware"
    source = "vLLM PR 56897"

    def score(self, request: RequestState, now: float) -> float:
        if request.private_blocks is None:
            raise BidValidationError(
                f"cost-aware: private_blocks of request {request.request_id!r} is not known"
            )
        return request.private_blocks / max(1, request.computed_tokens) * (1.0 - request.completion)


class CostAwareStrategy(Strategy):
    name = "cost-aware"
    admission_class = Fcfs
    victim_class = CostAware
