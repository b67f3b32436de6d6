"""Who was admitted last is evicted: what vLLM v1 does by default."""

from __future__ import annotations

from collections.abc import Sequence

from bidkv.request import RequestState
from bidkv.victim.base import VictimPolicy


class Lifo(VictimPolicy):
    """Evicts the last admitted."""

    name = "lifo"
    source = "vLLM v1 scheduler, FCFS policy"

    def select(self, candidates: Sequence[RequestState], now: float) -> RequestState:
        return candidates[-1]
