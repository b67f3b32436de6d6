"""Who is least likely to return soon, by what was learned of pauses, gives up its blocks first."""

from __future__ import annotations

from collections.abc import Sequence

from bidkv.errors import BidValidationError
from bidkv.retention.base import Owner, Retention
from bidkv.retention.checks import check_whole
from bidkv.retention.returns import Returns


class TtlLearned(Retention):
    """Lowest value first: how likely a return is within the best time to live, by the time it would be kept until then,
    of all pauses so far and of its own (those count as much as `own` of all). Whose turn waits already is kept longest,
    the first in order of waiting. The order of use holds until `enough` pauses have ended."""

    name = "ttl_learned"
    source = "Gittins' index over learned pauses; times to live as in Continuum (2511.02230)"

    def __init__(self, enough: int = 30, own: float = 4.0):
        check_whole(self.name, 1, enough=enough)
        if isinstance(own, bool) or not isinstance(own, int | float) or not own >= 0:
            raise BidValidationError(f"{self.name}: own must be a number of at least 0, got {own!r}")
        self._returns = Returns(enough, own)

    def keep_order(self, idle: Sequence[Owner], now: float) -> Sequence[Owner]:
        self._returns.refresh(now)
        return sorted(idle, key=lambda owner: self._key(owner, now))

    def arrived(self, owner: Owner, prompt_tokens: int, now: float) -> None:
        self._returns.ended(owner, now)

    def finished(self, owner: Owner, prompt_tokens: int, output_tokens: int, now: float) -> None:
        self._returns.began(owner, now)

    def _key(self, owner: Owner, now: float) -> tuple[float, ...]:
        if owner.waiting_since is not None:
            return (1.0, -owner.waiting_since)
        return (0.0, self._returns.value(owner, now), owner.used)
