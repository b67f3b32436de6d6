"""BidKV on a radix tree: only the KV that nobody shares counts as freed."""

from __future__ import annotations

from bidkv.errors import BidValidationError
from bidkv.request import RequestState
from bidkv.utility import COMPLETION_WEIGHT, PREEMPTION_WEIGHT, compute_utility
from bidkv.victim.base import ScoredVictim

MIN_DELTA = 0.1


BASE_COST = 0.5


TOKENS_PER_COST = 256.0


def radix_disruption(
    request: RequestState,
    private_tokens: int,
    completion_weight: float = COMPLETION_WEIGHT,
    preemption_weight: float = PREEMPTION_WEIGHT,
    base_cost: float = BASE_COST,
    tokens_per_cost: float = TOKENS_PER_COST,
    min_delta: float = MIN_DELTA,
) -> float:
    """delta = max(min, max(base, private / tokens_per_cost) + w_c * completion + w_p * preemptions)."""
    recompute = max(base_cost, private_tokens / tokens_per_cost)
    delta = recompute + completion_weight * request.completion + preemption_weight * request.preemptions
    return max(min_delta, delta)


class BidKVRadixVictim(ScoredVictim):
    """Highest U = private tokens / (delta + epsilon), delta as `radix_disruption`.

    Raises `BidValidationError` where private tokens are not known: a full footprint is another quantity.
    """

    name = "bidkv_radix"
    source = "BidKV seed design, radix-aware branch"

    def __init__(
        self,
        completion_weight: float = COMPLETION_WEIGHT,
        preemption_weight: float = PREEMPTION_WEIGHT,
        base_cost: float = BASE_COST,
        tokens_per_cost: float = TOKENS_PER_COST,
        min_delta: float = MIN_DELTA,
    ):
        weights = {
            "completion_weight": completion_weight,
            "preemption_weight": preemption_weight,
            "base_cost": base_cost,
            "min_delta": min_delta,
        }
        for key, value in weights.items():
            if value < 0:
                raise BidValidationError(f"bidkv_radix: {key} must be >= 0, got {value}")
        if tokens_per_cost <= 0:
            raise BidValidationError(f"bidkv_radix: tokens_per_cost must be > 0, got {tokens_per_cost}")
        self._weights = {**weights, "tokens_per_cost": tokens_per_cost}

    def score(self, request: RequestState, now: float) -> float:
        private = request.private_tokens
        if private is None:
            raise BidValidationError(
                f"bidkv_radix: private_tokens of request {request.request_id!r} is not known"
            )
        return compute_utility(private, radix_disruption(request, private, **self._weights))
