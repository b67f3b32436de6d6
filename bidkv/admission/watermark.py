"""vLLM's own remedy against preemptions: `--watermark`, a share of the pool that admissions leave free."""

from __future__ import annotations

from bidkv.admission.fcfs import Fcfs
from bidkv.errors import BidValidationError


class Watermark(Fcfs):
    """First come, first served; decides as vLLM with that `watermark` does, also on engines without one."""

    name = "watermark"
    source = "vLLM PR 44594"

    def __init__(self, headroom: float = 0.05):
        if not 0 <= headroom < 1:
            raise BidValidationError(f"{self.name}: headroom must be in [0, 1), got {headroom!r}")
        self.headroom = headroom
