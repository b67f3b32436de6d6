"""Who was used longest ago gives up its blocks first: what vLLM and SGLang do."""

from __future__ import annotations

from collections.abc import Sequence

from bidkv.owner import Owner
from bidkv.retention.base import Retention


class Lru(Retention):
    """The engine's own order; nothing of its pool is touched."""

    name = "lru"
    source = "vLLM's and SGLang's own rule: least recently used"
    stock = True

    def keep_order(self, idle: Sequence[Owner], now: float) -> Sequence[Owner]:
        return sorted(idle, key=lambda owner: owner.used)
