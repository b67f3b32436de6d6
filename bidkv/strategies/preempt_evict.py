"""What vLLM v1 does by default: admit in order of arrival, preempt the last of the running list."""

from __future__ import annotations

from collections.abc import Sequence

from bidkv.request import RequestState
from bidkv.strategies.admission import Fcfs
from bidkv.strategies.base import Strategy, VictimPolicy


class Lifo(VictimPolicy):
    """Evicts the last admitted."""

    name = "lifo"
    source = "vLLM v1 scheduler, FCFS policy"

    def select(self, candidates: Sequence[RequestState], now: float) -> RequestState:
        return candidates[-1]


class PreemptEvictStrategy(Strategy):
    name = "preempt-evict"
    admission_class = Fcfs
    victim_class = Lifo
