"""The engine as it is: what every other strategy is compared with."""

from __future__ import annotations

from bidkv.strategies.admission import Fcfs
from bidkv.strategies.base import Strategy
from bidkv.strategies.preempt_evict import Lifo


class StockStrategy(Strategy):
    """vLLM's default pair. Configured with `kill_switch`, the adapter only keeps records and the engine decides."""

    name = "stock"
    admission_class = Fcfs
    victim_class = Lifo
