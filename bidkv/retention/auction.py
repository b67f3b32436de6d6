"""Memory goes to the highest bid: idle conversations bid what their return would cost, times its chance, for each block."""

from __future__ import annotations

from bidkv.checks import check_at_least
from bidkv.owner import Owner
from bidkv.retention.learning import LearnsReturns


class Auction(LearnsReturns):
    """Lowest bid first: seconds to get its tokens back * the chance that it returns before they are needed / its
    tokens / the seconds for which they would be held until then.

    Blocks are needed after as long as the pool took lately to give up all that is idle, `horizon_s` before that is known
    (it forgets with the weight 1 / 16). Chances are learned as in `ttl_learned`, with `enough` and `own`. Whose turn waits
    already bids for certain, the first in order of waiting most.
    """

    name = "auction"
    weighs_cost = True
    source = "BidKV utility for who is idle: seconds saved per block and second"

    def __init__(self, enough: int = 30, own: float = 4.0, horizon_s: float = 60.0):
        super().__init__(enough, own)
        check_at_least(self.name, 1e-3, horizon_s=horizon_s)
        self._horizon = float(horizon_s)

    def given_up(self, owner: Owner, now: float) -> None:
        if owner.waiting_since is None:  # as old as this one all get, and no older
            self._horizon += (max(now - owner.used, 1e-3) - self._horizon) / 16

    def _key(self, owner: Owner, now: float) -> tuple[float, ...]:
        if owner.waiting_since is not None:
            return (1.0, -owner.waiting_since, 0.0)
        price = owner.seconds / owner.tokens if owner.tokens else self.pool.compute_s_per_token
        return (0.0, price * self._returns.within(owner, now, self._horizon), owner.used)
