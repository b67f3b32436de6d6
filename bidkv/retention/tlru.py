"""What the next turn can compute again within its budget is given up first, then in the order of use."""

from __future__ import annotations

from collections.abc import Sequence

from bidkv.checks import check_whole
from bidkv.owner import Owner
from bidkv.retention.base import Retention


class TailLru(Retention):
    """An owner with a history of L tokens needs L + `next_prompt` - `threshold` of them cached, so that its next turn
    computes no more than `threshold` tokens: what it has beyond goes first, who was used longest ago in front."""

    name = "tlru"
    source = "T-LRU (arXiv 2510.15152); SGLang PR 34012, vLLM PR 37825"

    def __init__(self, threshold: int = 2048, next_prompt: int = 256):
        check_whole(self.name, 0, threshold=threshold, next_prompt=next_prompt)
        self.threshold, self.next_prompt = threshold, next_prompt

    def keep_order(self, idle: Sequence[Owner], now: float) -> Sequence[Owner]:
        return sorted(idle, key=lambda owner: owner.used)

    def kept_tokens(self, owner: Owner) -> int:
        return max(0, owner.history + self.next_prompt - self.threshold)
