"""token-seconds with the true output lengths: what shortest first could gain at most."""

from __future__ import annotations

from bidkv.strategies.base import Strategy
from bidkv.strategies.lengths import TrueLengths
from bidkv.strategies.srpt_oracle import SrptOracle
from bidkv.strategies.token_seconds import TokenSeconds


class TokenSecondsOracle(TokenSeconds):
    """Smallest true s first, then arrival."""

    name = "token-seconds_oracle"
    oracle = True

    def __init__(self) -> None:
        super().__init__()
        self.lengths = TrueLengths()


class TokenSecondsOracleStrategy(Strategy):
    name = "token-seconds_oracle"
    admission_class = TokenSecondsOracle
    victim_class = SrptOracle
