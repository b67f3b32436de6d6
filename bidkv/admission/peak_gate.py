"""Holds a request back until the memory that all will need at their peak is there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from bidkv.admission.base import AdmissionPolicy
from bidkv.errors import BidValidationError
from bidkv.lengths.estimates import LearnedLengths
from bidkv.request import FinishedRequest, PoolState, RequestState


def peak_tokens(held_and_remaining: Iterable[tuple[float, float]]) -> float:
    """The most KV tokens ever held together: each (tokens now, tokens to come) grows by one a step and leaves.

    The largest sum is reached where one finishes; by then the longer ones have grown as much as it had left.
    """
    peak = held = 0.0
    for number, (now, left) in enumerate(sorted(held_and_remaining, key=lambda pair: -pair[1]), 1):
        held += now
        peak = max(peak, held + number * left)
    return peak


def forecast(
    request: RequestState,
    running: Sequence[RequestState],
    pool: PoolState,
    length: Callable[[RequestState], float],
) -> float:
    """The peak in KV tokens if `request` starts beside `running`; `length` says how long an output will be.

    What requests share is held once: each counts with the same share of its tokens, so that their sum is
    what the pool has given out.
    """
    tokens = [other.prompt_tokens + other.output_tokens for other in running]
    share = (pool.capacity_tokens - pool.free_tokens) / max(1, sum(tokens))
    held = [share * count for count in tokens] + [pool.needed_tokens]
    left = [length(other) - other.output_tokens for other in (*running, request)]
    return peak_tokens(zip(held, left, strict=True))


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
        return ()  # in the order of joining

    def admits(self, request: RequestState, running: Sequence[RequestState], pool: PoolState) -> bool:
        peak = forecast(request, running, pool, lambda other: self.lengths.quantile(other, self.share))
        return peak <= self.limit * pool.capacity_tokens

    def observe(self, finished: FinishedRequest) -> None:
        self.lengths.observe(finished)
