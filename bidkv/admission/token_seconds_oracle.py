"""token-seconds with the true output lengths: what shortest first could gain at most."""

from __future__ import annotations

from bidkv.admission.token_seconds import TokenSeconds
from bidkv.lengths.estimates import TrueLengths


class TokenSecondsOracle(TokenSeconds):
    """Smallest true s first, then arrival."""

    name = "token-seconds_oracle"
    oracle = True

    def __init__(self) -> None:
        super().__init__()
        self.lengths = TrueLengths()
