"""boost with the true output lengths: what better predictions could gain it at most."""

from __future__ import annotations

from bidkv.request import RequestState
from bidkv.strategies.base import Strategy
from bidkv.strategies.boost import BoostRate, boosted
from bidkv.strategies.srpt_oracle import SrptOracle
from bidkv.strategies.token_seconds import OracleSizes


class BoostOracle(OracleSizes):
    """As `boost`, with the true s."""

    name = "boost_oracle"

    def __init__(self, gamma: float | str = 1.0, relative: float = 0.12):
        super().__init__()
        self.rate = BoostRate(self.name, gamma, relative)

    def arrived(self, request: RequestState, now: float) -> None:
        self.rate.arrived(request.arrival, self.size(request))

    def key(self, request: RequestState, now: float = 0.0) -> tuple[float, ...]:
        return (boosted(request.arrival, self.size(request), self.rate.value),)


class BoostOracleStrategy(Strategy):
    name = "boost_oracle"
    admission_class = BoostOracle
    victim_class = SrptOracle
