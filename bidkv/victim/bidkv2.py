"""The BidKV utility with true quantities: bids of who runs, in the auction that `bidkv.admission.bidkv2` is the other
half of.

`bidkv` ranks victims by what is freed; but what is freed must be computed again, so that it evicts the
costliest. Here a bid offers r, the tokens that the shortfall really needs, at delta, the seconds that
giving them up is expected to cost, and U = r / delta decides as before.
"""

from __future__ import annotations

from collections.abc import Sequence

from bidkv.checks import check_at_least
from bidkv.request import FinishedRequest, RequestState
from bidkv.utility import EPSILON
from bidkv.victim.base import ScoredVictim
from bidkv.victim.kept_share import KeptShare


class AuctionVictim(ScoredVictim):
    """Highest U = r / delta: r = min(private tokens, shortfall), delta = seconds of recompute and waiting.

    A step computes `tokens_per_step` tokens in the time of a decode step. The share that the prefix
    cache keeps and the wait until a victim runs again are learned from those that finished. Who was
    preempted `max_preemptions` times goes only if there is nobody else.
    """

    name = "bidkv2"
    source = "BidKV utility, repaired: bids of who runs"
    evicts_requester = False
    WEIGHT = 0.05  # of the latest request that was preempted

    def __init__(self, max_preemptions: int = 3, tokens_per_step: float = 256.0):
        check_at_least(self.name, 1, max_preemptions=max_preemptions, tokens_per_step=tokens_per_step)
        self.max_preemptions, self.tokens_per_step = max_preemptions, tokens_per_step
        self.kept = KeptShare()
        self.wait_seconds = 0.0

    def score(self, request: RequestState, now: float) -> float:
        return self.scores((request,), now)[0]

    def scores(self, candidates: Sequence[RequestState], now: float) -> list[float]:
        # Inlined `compute_utility(freed, seconds)`: a step waits for this.
        pool, kept, per_step = self.pool, self.kept.value, self.tokens_per_step
        short, step, wait = pool.shortfall_tokens, pool.seconds_per_step, self.wait_seconds
        scores = []
        for request in candidates:
            own = request.private_tokens
            if own is None:
                own = request.computed_tokens
            freed = short if 0 < short < own else own
            steps = 1 + own * (1 - kept) / per_step
            scores.append(freed / (steps * step + wait + EPSILON))
        return scores

    def select(self, candidates: Sequence[RequestState], now: float) -> RequestState:
        fresh = [request for request in candidates if request.preemptions < self.max_preemptions]
        return super().select(fresh or candidates, now)

    def observe(self, finished: FinishedRequest) -> None:
        self.kept.observe(finished)
        if finished.preemptions:
            wait = finished.preempted_seconds / finished.preemptions
            self.wait_seconds += self.WEIGHT * (wait - self.wait_seconds)
