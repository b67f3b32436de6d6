"""boost with the true output lengths: what better predictions could gain it at most."""

from __future__ import annotations

from bidkv.admission.boost import Boost
from bidkv.lengths.estimates import TrueLengths


class BoostOracle(Boost):
    """As `boost`, with the true s."""

    name = "boost_oracle"
    oracle = True

    def __init__(self, gamma: float | str = 1.0, relative: float = 0.12):
        super().__init__(gamma, relative)
        self.lengths = TrueLengths()
