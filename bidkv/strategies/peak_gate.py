"""Holds a request back until the memory that all will need at their peak is there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from bidkv.errors import BidValidationError
from bidkv.request import FinishedRequest, PoolState, RequestState
from bidkv.strategies.base import AdmissionPolicy, Strategy
from bidkv.strategies.lcf_guard import GuardedLeastComputedFirst
from bidkv.strategies.lengths import LearnedLengths


def peak_tokens(held_and_remaining: Iterable[tuple[float, float]]) -> float:
    """The most KV tokens ever held together: each (tokens now, tokens to come) grows by one a step and leaves.

    The largest sum is reached where one finishes; by then the longer ones have grown as much as it had left.
    """
    peak = held = 0.0
    for number, (now, left) in enumerate(sorted(held_and_remaining, key=lambda pair: -pair[1]), 1):
        held += now
        peak = max(peak, held + number * left)
    return peak


class PeakGate(AdmissionPolicy):
    """Arrival order; a request starts when the forecast peak stays within `limit` of the pool.

    Remaining lengths are the `share` quantile of finished requests like it that were longer already.
    """

    name = "peak-gate"
    source = "LightLLM's future memory (past-future scheduler, arXiv 2507.10150)"

    def __init__(self, share: float = 0.5, limit: float = 1.0):
        if not 0 <= share <= 1:
            raise BidValidationError(f"{self.name}: share must be in [0, 1], got {share!r}")
        if not limit > 0:
            raise BidValidationError(f"{self.name}: limit must be > 0, got {limit!r}")
        self.share, self.limit = share, limit
        self.lengths = LearnedLengths()

    def key(self, request: RequestState, now: float = 0.0) -> tuple[float, ...]:
        return (request.arrival,)

    def admits(self, request: RequestState, running: Sequence[RequestState], pool: PoolState) -> bool:
        held = [self._held_and_remaining(other) for other in (*running, request)]
        return peak_tokens(held) <= self.limit * pool.capacity_tokens

    def observe(self, finished: FinishedRequest) -> None:
        self.lengths.observe(finished)

    def _held_and_remaining(self, request: RequestState) -> tuple[float, float]:
        tokens = request.prompt_tokens + request.output_tokens
        return tokens, self.lengths.quantile(request, self.share) - request.output_tokens


class PeakGateStrategy(Strategy):
    name = "peak-gate"
    admission_class = PeakGate
    victim_class = GuardedLeastComputedFirst
