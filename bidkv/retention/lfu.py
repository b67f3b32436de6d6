"""Who had the fewest turns gives up its blocks first."""

from __future__ import annotations

from collections.abc import Sequence

from bidkv.owner import Owner
from bidkv.retention.base import Retention


class Lfu(Retention):
    """Fewest turns first, of equals who was used longest ago. What was used often once is kept, used or not."""

    name = "lfu"
    source = "least frequently used; SGLang's `--radix-eviction-policy lfu`"

    def keep_order(self, idle: Sequence[Owner], now: float) -> Sequence[Owner]:
        return sorted(idle, key=lambda owner: (owner.turns, owner.used))
