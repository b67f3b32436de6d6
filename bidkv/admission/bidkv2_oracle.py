"""bidkv2's auction with the true output lengths: what better predictions could gain it."""

from __future__ import annotations

from bidkv.admission.bidkv2 import AuctionAdmission
from bidkv.lengths.estimates import TrueLengths


class AuctionOracle(AuctionAdmission):
    """As `bidkv2`; bids name what a request will really hold."""

    name = "bidkv2_oracle"
    oracle = True
    lengths_class = TrueLengths
