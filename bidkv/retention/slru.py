"""Who never came back gives up its blocks before all that did."""

from __future__ import annotations

from collections.abc import Sequence

from bidkv.checks import check_whole
from bidkv.owner import Owner
from bidkv.retention.base import Retention


class Slru(Retention):
    """Two segments, each in the order of use: owners with fewer than `protected` turns go first."""

    name = "slru"
    source = "segmented LRU (Karedla 1994); SGLang PR 18843"

    def __init__(self, protected: int = 2):
        check_whole(self.name, 1, protected=protected)
        self.protected = protected

    def keep_order(self, idle: Sequence[Owner], now: float) -> Sequence[Owner]:
        return sorted(idle, key=lambda owner: (owner.turns >= self.protected, owner.used))
