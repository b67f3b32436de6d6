"""Who costs least to compute again for the memory it takes, and was used seldom, gives up its blocks first."""

from __future__ import annotations

from collections.abc import Sequence

from bidkv.owner import Owner
from bidkv.retention.base import Retention


class Gdsf(Retention):
    """Lowest L + turns * seconds / tokens first, with L the value at which blocks were given up last.

    L makes those old that are not used. Where a token costs the same everywhere, seconds / tokens is one number for
    all, and how many turns an owner has had decides.
    """

    name = "gdsf"
    source = "GreedyDual-Size with frequency (Cherkasova 1998)"

    def __init__(self) -> None:
        self._floor = 0.0
        self._values: dict[int, float] = {}

    def keep_order(self, idle: Sequence[Owner], now: float) -> Sequence[Owner]:
        return sorted(idle, key=lambda owner: (self._value(owner), owner.used))

    def finished(self, owner: Owner, prompt_tokens: int, output_tokens: int, now: float) -> None:
        self._values.pop(owner.name, None)  # set anew when its blocks are counted

    def given_up(self, owner: Owner, now: float) -> None:
        self._floor = max(self._floor, self._value(owner))

    def forgotten(self, owner: Owner) -> None:
        self._values.pop(owner.name, None)

    def _value(self, owner: Owner) -> float:
        """As of the first time that it was asked for since the owner's latest turn."""
        value = self._values.get(owner.name)
        if value is None:
            cost = owner.seconds / owner.tokens if owner.tokens else self.pool.compute_s_per_token
            value = self._values[owner.name] = self._floor + max(1, owner.turns) * cost
        return value
