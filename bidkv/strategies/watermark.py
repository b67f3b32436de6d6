"""vLLM's own remedy against preemptions: `--watermark`, a share of the pool that admissions leave free."""

from __future__ import annotations

from bidkv.errors import BidValidationError
from bidkv.strategies.admission import Fcfs
from bidkv.strategies.base import Strategy
from bidkv.strategies.preempt_evict import Lifo


class Watermark(Fcfs):
    """First come, first served; decides as vLLM with that `watermark` does, also on engines without one."""

    name = "watermark"
    source = "vLLM PR 44594"

    def __init__(self, headroom: float = 0.05):
        if not 0 <= headroom < 1:
            raise BidValidationError(f"{self.name}: headroom must be in [0, 1), got {headroom!r}")
        self.headroom = headroom


class WatermarkStrategy(Strategy):
    name = "watermark"
    admission_class = Watermark
    victim_class = Lifo
