"""What rules that learn when owners return have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

from bidkv.checks import check_at_least, check_whole
from bidkv.owner import Owner
from bidkv.retention.base import Retention
from bidkv.retention.returns import Returns


class LearnsReturns(Retention):
    """Sorts owners by a key of what was learned of pauses; see `Returns` for `enough` and `own`."""

    def __init__(self, enough: int = 30, own: float = 4.0):
        check_whole(self.name, 1, enough=enough)
        check_at_least(self.name, 0, own=own)
        self._returns = Returns(enough, own)

    def keep_order(self, idle: Sequence[Owner], now: float) -> Sequence[Owner]:
        self._returns.refresh(now)
        return sorted(idle, key=lambda owner: self._key(owner, now))

    def arrived(self, owner: Owner, prompt_tokens: int, now: float) -> None:
        self._returns.ended(owner, now)

    def finished(self, owner: Owner, prompt_tokens: int, output_tokens: int, now: float) -> None:
        self._returns.began(owner, now)

    @abstractmethod
    def _key(self, owner: Owner, now: float) -> tuple[float, ...]:
        """The lowest gives up its blocks first."""
