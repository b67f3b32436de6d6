"""bidkv2's auction with the true output lengths: what better predictions could gain it."""

from __future__ import annotations

from bidkv.strategies.base import Strategy
from bidkv.strategies.bidkv2 import AuctionAdmission, AuctionVictim
from bidkv.strategies.lengths import TrueLengths


class AuctionOracle(AuctionAdmission):
    """As `bidkv2`; bids name what a request will really hold."""

    name = "bidkv2_oracle"
    oracle = True

    def __init__(
        self,
        depth: int = 16,
        max_overtaken: int = 300,
        headroom: float = 0.01,
        growth: float = 0.08,
        alone_after: int = 0,
        alone_after_s: float = 0.4,
    ):
        super().__init__(depth, max_overtaken, headroom, growth, alone_after, alone_after_s)
        self.lengths = TrueLengths()


class BidKV2OracleStrategy(Strategy):
    name = "bidkv2_oracle"
    admission_class = AuctionOracle
    victim_class = AuctionVictim
