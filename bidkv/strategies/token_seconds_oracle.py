"""token-seconds with the true output lengths: what shortest first could gain at most."""

from __future__ import annotations

from bidkv.request import RequestState
from bidkv.strategies.base import Strategy
from bidkv.strategies.srpt_oracle import SrptOracle
from bidkv.strategies.token_seconds import OracleSizes


class TokenSecondsOracle(OracleSizes):
    """Smallest true s first, then arrival."""

    name = "token-seconds_oracle"

    def key(self, request: RequestState, now: float = 0.0) -> tuple[float, ...]:
        return (self.size(request), request.arrival)


class TokenSecondsOracleStrategy(Strategy):
    name = "token-seconds_oracle"
    admission_class = TokenSecondsOracle
    victim_class = SrptOracle
