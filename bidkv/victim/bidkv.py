"""Who frees most KV per unit of predicted disruption is evicted."""

from __future__ import annotations

from collections.abc import Sequence

from bidkv.errors import BidValidationError
from bidkv.request import RequestState
from bidkv.utility import COMPLETION_WEIGHT, EPSILON, PREEMPTION_WEIGHT
from bidkv.victim.base import ScoredVictim


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
        return self.scores((request,), now)[0]

    def scores(self, candidates: Sequence[RequestState], now: float) -> list[float]:
        # Inlined `compute_utility(computed, disruption(...))`: a step waits for this.
        ended, again = self.completion_weight, self.preemption_weight
        scores = []
        for request in candidates:
            output, declared = request.output_tokens, request.max_tokens
            completion = output / declared if output < declared else float(declared > 0)
            disruption = 1.0 + ended * completion + again * request.preemptions
            scores.append(request.computed_tokens / (disruption + EPSILON))
        return scores
