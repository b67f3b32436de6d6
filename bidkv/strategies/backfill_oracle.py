"""backfill with the true output lengths: what better predictions could gain it."""

from __future__ import annotations

from bidkv.strategies.backfill import Backfill
from bidkv.strategies.base import Strategy
from bidkv.strategies.lcf_guard import GuardedLeastComputedFirst
from bidkv.strategies.lengths import TrueLengths


class BackfillOracle(Backfill):
    """As `backfill`; it knows how much the running ones will add."""

    name = "backfill_oracle"
    oracle = True

    def __init__(
        self,
        depth: int = 32,
        max_overtaken: int = 40,
        headroom: float = 0.01,
        growth: float = 0.08,
        alone_after: int = 32,
        alone_after_s: float = 0.4,
    ):
        super().__init__(depth, max_overtaken, headroom, growth, alone_after, alone_after_s)
        self.lengths = TrueLengths()


class BackfillOracleStrategy(Strategy):
    name = "backfill_oracle"
    admission_class = BackfillOracle
    victim_class = GuardedLeastComputedFirst
