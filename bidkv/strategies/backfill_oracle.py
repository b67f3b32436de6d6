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
    lengths_class = TrueLengths


class BackfillOracleStrategy(Strategy):
    name = "backfill_oracle"
    admission_class = BackfillOracle
    victim_class = GuardedLeastComputedFirst
