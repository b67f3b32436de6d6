"""Memory goes to who waits for it at the highest price: bids of who waits, in the auction that `bidkv.victim.bidkv2` is
the other half of."""

from __future__ import annotations

import math

from bidkv.admission.backfill import Backfill
from bidkv.lengths.estimates import PRIOR
from bidkv.request import RequestState


class AuctionAdmission(Backfill):
    """Memory goes to the highest bid that fits: most seconds of delay per KV token-second asked for.

    A request that waits loses what it has waited and its service time, O * d seconds, if others go first;
    it asks for (P + O/2) tokens over that time. As in `backfill`, a bid that does not fit may be passed.
    """

    name = "bidkv2"
    source = "BidKV utility, repaired: bids of who waits"
    resorts = True

    def __init__(
        self,
        depth: int = 16,
        max_overtaken: int = 300,
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

    def key(self, request: RequestState, now: float = 0.0) -> tuple[float, ...]:
        output = self.lengths.mean(request)
        service = output * self.pool.seconds_per_step
        asked = (request.prompt_tokens + output / 2) * service
        return (-(now - request.arrival + service) / asked,)
