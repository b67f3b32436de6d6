"""bidkv2's auction with the true output lengths: what better predictions could gain it."""

from __future__ import annotations

from bidkv.strategies.base import Strategy
from bidkv.strategies.bidkv2 import AuctionAdmission, AuctionVictim
from bidkv.strategies.lengths import TrueLengths


class AuctionOracle(AuctionAdmission):
    """As `bidkv2`; bids name what a request will really hold."""

    name = "bidkv2_oracle"
    oracle = True
    lengths_class = TrueLengths


class BidKV2OracleStrategy(Strategy):
    name = "bidkv2_oracle"
    admission_class = AuctionOracle
    victim_class = AuctionVictim
