"""Which bids to accept: greedy by utility under a budget of quality."""

from __future__ import annotations

from bidkv.bids.gate import BidGate
from bidkv.bids.pressure import PressureDetector
from bidkv.bids.protocol import BidAcceptance, BidPool
from bidkv.errors import BidValidationError

_ROUNDING = 1e-9  # three deltas of 0.1 must fit a budget of 0.3


class GreedyBidSolver:
    """Takes bids by falling utility until enough tokens are freed.

    At most one bid a request, summed delta within the budget, at most `max_bids_per_solve` bids. The
    config is read live: a kill switch thrown while a solve runs voids its result.
    """

    def __init__(self, config: BidGate | None = None):
        self.config = config or BidGate()

    def solve(
        self,
        pool: BidPool,
        tokens_needed: int,
        delta_budget: float | None = None,
        *,
        decision_reason: str = "kv_pressure",
    ) -> BidAcceptance:
        """Accepts bids from `pool`; `delta_budget` replaces the configured one for this call.

        The acceptance may free fewer tokens than needed. `decision_reason` is kept, or replaced by why
        nothing was accepted: kill_switch, feature_off, no_tokens_needed, empty_pool, no_bid_fits.
        """
        if delta_budget is not None and not delta_budget >= 0:
            raise BidValidationError(f"delta_budget must be >= 0, got {delta_budget}")
        if not self.config.is_active:
            return self._inactive()
        if tokens_needed <= 0:
            return _nothing("no_tokens_needed")
        if not pool.bids:
            return _nothing("empty_pool")
        acceptance = self._greedy(pool, tokens_needed, delta_budget, decision_reason)
        return acceptance if self.config.is_active else self._inactive()

    def solve_with_detector(self, pool: BidPool, detector: PressureDetector) -> BidAcceptance:
        """Frees what the detector says is needed now."""
        return self.solve(pool, detector.needed_tokens())

    def _greedy(
        self, pool: BidPool, tokens_needed: int, delta_budget: float | None, reason: str
    ) -> BidAcceptance:
        budget = self.config.delta_budget if delta_budget is None else delta_budget
        limit = budget * (1 + _ROUNDING)
        most = self.config.max_bids_per_solve or len(pool.bids)
        chosen: dict[str, str] = {}  # request -> bid
        freed, delta = 0, 0.0
        for bid in pool.top_k_by_utility(len(pool.bids)):
            if freed >= tokens_needed or len(chosen) == most:
                break
            if bid.request_id not in chosen and delta + bid.quality_delta <= limit:
                chosen[bid.request_id] = bid.bid_id
                freed += bid.tokens_freed
                delta += bid.quality_delta
        if not chosen:
            return _nothing("no_bid_fits")
        return BidAcceptance(tuple(chosen.values()), freed, delta, reason)

    def _inactive(self) -> BidAcceptance:
        return _nothing("kill_switch" if self.config.kill_switch else "feature_off")


def _nothing(reason: str) -> BidAcceptance:
    return BidAcceptance((), 0, 0.0, reason)
