"""Who returns last gives up its blocks first: what perfect foresight could gain."""

from __future__ import annotations

import math
from collections.abc import Sequence

from bidkv.owner import Owner
from bidkv.retention.base import Retention


class BeladyOracle(Retention):
    """Latest true next turn first, never before all; whose turn waits already is kept longest, in order of waiting.

    A next turn that also waits for sub-agents comes later than is known here: the time is then the earliest possible.
    """

    name = "belady_oracle"
    source = "Belady (1966)"
    oracle = True

    def keep_order(self, idle: Sequence[Owner], now: float) -> Sequence[Owner]:
        return sorted(idle, key=lambda owner: -_next(owner))


def _next(owner: Owner) -> float:
    if owner.waiting_since is not None:
        return owner.waiting_since - 1e9  # before any that is still away
    return math.inf if owner.true_next is None else owner.true_next
