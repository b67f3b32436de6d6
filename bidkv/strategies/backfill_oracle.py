"""backfill with the true output lengths: what a perfect forecast of memory could gain it."""

from __future__ import annotations

from collections.abc import Sequence

from bidkv.request import PoolState, RequestState
from bidkv.strategies.backfill import Backfill
from bidkv.strategies.base import Strategy
from bidkv.strategies.lengths import TrueLengths
from bidkv.strategies.peak_gate import forecast
from bidkv.strategies.srpt_oracle import SrptOracle


class BackfillOracle(Backfill):
    """As `backfill`, but a request starts exactly when the true peak of all that run fits, headroom left free."""

    name = "backfill_oracle"
    oracle = True

    def __init__(self, depth: int = 4, max_overtaken: int = 40, headroom: float = 0.01):
        super().__init__(depth, max_overtaken, headroom)
        self.lengths = TrueLengths()

    def admits(self, request: RequestState, running: Sequence[RequestState], pool: PoolState) -> bool:
        return (
            forecast(request, running, pool, self.lengths.mean) <= (1 - self.headroom) * pool.capacity_tokens
        )


class BackfillOracleStrategy(Strategy):
    name = "backfill_oracle"
    admission_class = BackfillOracle
    victim_class = SrptOracle
