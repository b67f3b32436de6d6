"""Most memory returned for each token to recompute, sparing requests near their end."""

from __future__ import annotations

from collections.abc import Sequence

from bidkv.errors import BidValidationError
from bidkv.request import RequestState
from bidkv.victim.base import ScoredVictim


class CostAware(ScoredVictim):
    """Highest (reclaimable blocks / computed tokens) * (1 - output / max_tokens).

    Reclaimable blocks are those with one owner. Raises `BidValidationError` where they are not known.
    """

    name = "cost-aware"
    source = "vLLM PR 56897"

    def score(self, request: RequestState, now: float) -> float:
        return self.scores((request,), now)[0]

    def scores(self, candidates: Sequence[RequestState], now: float) -> list[float]:
        scores = []
        for request in candidates:
            reclaimable, computed = request.private_blocks, request.computed_tokens
            output, declared = request.output_tokens, request.max_tokens
            if reclaimable is None:
                name = request.request_id
                raise BidValidationError(f"cost-aware: private_blocks of request {name!r} is not known")
            completion = output / declared if output < declared else float(declared > 0)
            scores.append(reclaimable / (computed if computed > 0 else 1) * (1.0 - completion))
        return scores
