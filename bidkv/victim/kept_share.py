"""What victims find again in the prefix cache: what rules that count only lost tokens share."""

from __future__ import annotations

from bidkv.request import FinishedRequest


class KeptShare:
    """The share of a victim's own KV that it finds again in the prefix cache; forgets the past slowly."""

    WEIGHT = 0.05  # of the latest request that was preempted

    def __init__(self) -> None:
        self.value = 0.0

    def observe(self, finished: FinishedRequest) -> None:
        lost = finished.recomputed_tokens + finished.restored_tokens
        if finished.preemptions and lost:
            self.value += self.WEIGHT * (finished.restored_tokens / lost - self.value)
