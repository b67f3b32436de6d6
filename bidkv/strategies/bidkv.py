"""BidKV: evict the request that frees most KV per unit of predicted disruption."""

from __future__ import annotations

from bidkv.errors import BidValidationError
from bidkv.request import RequestState
from bidkv.strategies.admission import Sjf
from bidkv.strategies.base import ScoredVictim, Strategy
from bidkv.utility import COMPLETION_WEIGHT, EPSILON, PREEMPTION_WEIGHT


class BidKVVictim(ScoredVictim):
    """Highest U = c / (1 + w_c * completion + w_p * preemptions + epsilon), c = computed tokens."""

    name = "bidkv"
    source = "BidKV seed design"

    def __init__(
        self,
        completion_weight: float = COMPLETION_WEIGHT,
        preemption_weight: float = PREEMPTION_WEIGHT,
    ):
        if completion_weight < 0 or preemption_weight < 0:
            raise BidValidationError(
                "bidkv: completion_weight and preemption_weight must be >= 0, got "
                f"{completion_weight} and {preemption_weight}"
            )
        self.completion_weight = completion_weight
        self.preemption_weight = preemption_weight

    def score(self, request: RequestState, now: float) -> float:
        # Inlined `compute_utility(computed, disruption(...))`: this runs once per candidate and decision.
        declared = request.max_tokens
        completion = min(1.0, request.output_tokens / declared) if declared > 0 else 0.0
        return request.computed_tokens / (
            1.0 + self.completion_weight * completion + self.preemption_weight * request.preemptions + EPSILON
        )


class BidKVStrategy(Strategy):
    name = "bidkv"
    admission_class = Sjf
    victim_class = BidKVVictim
