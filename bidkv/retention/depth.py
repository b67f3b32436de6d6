"""Whose chain of blocks is longest gives up its last ones first: what is near the root of the prefix tree stays."""

from __future__ import annotations

from collections.abc import Sequence

from bidkv.owner import Owner
from bidkv.retention.base import Retention


class Depth(Retention):
    """Most tokens cached first, of equals who was used longest ago. Many short conversations are kept for a long one."""

    name = "depth"
    source = "eviction by depth in the prefix tree, deepest first (vLLM's tie-break, made the rule)"

    def keep_order(self, idle: Sequence[Owner], now: float) -> Sequence[Owner]:
        return sorted(idle, key=lambda owner: (-owner.held, owner.used))
