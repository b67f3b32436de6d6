"""Least computed first that leaves a request alone once it was preempted often, as long as there is another."""

from __future__ import annotations

from collections.abc import Sequence

from bidkv.errors import BidValidationError
from bidkv.request import RequestState
from bidkv.victim.lcf import LeastComputedFirst


class GuardedLeastComputedFirst(LeastComputedFirst):
    """As `lcf`, but skips requests preempted `max_preemptions` times unless nobody else is left.

    No bound: where all that run have been preempted so often, one of them is again.
    """

    name = "lcf-guard"
    source = "vLLM RFC 54644 (starvation guard)"

    def __init__(self, max_preemptions: int = 3):
        if max_preemptions < 1:
            raise BidValidationError(f"lcf-guard: max_preemptions must be >= 1, got {max_preemptions}")
        self.max_preemptions = max_preemptions

    def select(self, candidates: Sequence[RequestState], now: float) -> RequestState:
        open_to_all = [request for request in candidates if request.preemptions < self.max_preemptions]
        return super().select(open_to_all or candidates, now)
