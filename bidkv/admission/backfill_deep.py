"""backfill that looks at the whole queue: the lowest mean latency, paid for by the largest requests."""

from __future__ import annotations

import math

from bidkv.admission.backfill import Backfill
from bidkv.lengths.estimates import PRIOR


class BackfillDeep(Backfill):
    """As `backfill`, with other defaults: who fits passes at once."""

    name = "backfill-deep"
    source = "backfill with a deep search"

    def __init__(
        self,
        depth: int = 64,
        max_overtaken: int = 1000,
        headroom: float = 0.01,
        growth: float = 0.08,
        alone_after: int = 0,
        alone_after_s: float = 0.4,
        alone_each: float = math.inf,
        reclaims: bool = False,
        grace: float = 0.35,
        grace_s: float = 2.0,
        large: float = 0.35,
        passing: float = math.inf,
        passing_s: float = 1.0,
        patience: float = math.inf,
        prior: int = PRIOR,
    ):
        super().__init__(
            depth,
            max_overtaken,
            headroom,
            growth,
            alone_after,
            alone_after_s,
            alone_each,
            reclaims,
            grace,
            grace_s,
            large,
            passing,
            passing_s,
            patience,
            prior,
        )
