"""Who is due last, by what its client said of the pause, gives up its blocks first."""

from __future__ import annotations

import math
from collections.abc import Sequence

from bidkv.errors import BidValidationError
from bidkv.owner import Owner
from bidkv.retention.base import Retention


class TtlGiven(Retention):
    """Expected return = when its turn ended + the pause that its client declared; the latest first. Who is overdue by
    more than `grace` of that pause goes before all that are not, as do owners of whom nothing was said (in the order of
    use). Whose turn waits already is kept longest, the first in order of waiting."""

    name = "ttl_given"
    source = "times to live that a tool's caller gives, as in Continuum (2511.02230); `pause_s` in the client's facts"

    def __init__(self, grace: float = 1.0):
        if isinstance(grace, bool) or not isinstance(grace, int | float) or not 0 <= grace < math.inf:
            raise BidValidationError(f"{self.name}: grace must be a number of at least 0, got {grace!r}")
        self.grace = grace

    def keep_order(self, idle: Sequence[Owner], now: float) -> Sequence[Owner]:
        return sorted(idle, key=lambda owner: self._key(owner, now))

    def _key(self, owner: Owner, now: float) -> tuple[float, ...]:
        if owner.waiting_since is not None:
            return (2.0, -owner.waiting_since)
        if owner.pause_s is None or now - owner.used > (1 + self.grace) * owner.pause_s:
            return (0.0, owner.used)
        return (1.0, -(owner.used + owner.pause_s))
