"""boost with the true output lengths: what better predictions could gain it at most."""

from __future__ import annotations

from bidkv.strategies.base import Strategy
from bidkv.strategies.boost import Boost
from bidkv.strategies.lengths import TrueLengths
from bidkv.strategies.srpt_oracle import SrptOracle


class BoostOracle(Boost):
    """As `boost`, with the true s."""

    name = "boost_oracle"
    oracle = True

    def __init__(self, gamma: float | str = 1.0, relative: float = 0.12):
        super().__init__(gamma, relative)
        self.lengths = TrueLengths()


class BoostOracleStrategy(Strategy):
    name = "boost_oracle"
    admission_class = BoostOracle
    victim_class = SrptOracle
