"""bidkv2's auction with the true output lengths: what better predictions could gain it at most."""

from __future__ import annotations

from bidkv.strategies.backfill_oracle import BackfillOracle
from bidkv.strategies.base import Strategy
from bidkv.strategies.bidkv2 import AuctionAdmission
from bidkv.strategies.srpt_oracle import SrptOracle


class AuctionOracle(BackfillOracle):
    """The bids of `bidkv2`, with true lengths, and the gate of `backfill_oracle`."""

    name = "bidkv2_oracle"
    source = AuctionAdmission.source
    resorts = True
    key = AuctionAdmission.key

    def __init__(self, depth: int = 16, max_overtaken: int = 300, headroom: float = 0.01):
        super().__init__(depth, max_overtaken, headroom)


class BidKV2OracleStrategy(Strategy):
    name = "bidkv2_oracle"
    admission_class = AuctionOracle
    victim_class = SrptOracle
