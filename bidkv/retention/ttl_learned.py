"""Who is least likely to return soon, by what was learned of pauses, gives up its blocks first."""

from __future__ import annotations

from bidkv.owner import Owner
from bidkv.retention.learning import LearnsReturns


class TtlLearned(LearnsReturns):
    """Lowest value first: how likely a return is within the best time to live, by the time it would be kept until then,
    of all pauses so far and of its own (those count as much as `own` of all). Whose turn waits already is kept longest,
    the first in order of waiting. The order of use holds until `enough` pauses have ended. What has copies in host memory
    counts by what loading it takes, as a share of computing it."""

    name = "ttl_learned"
    weighs_cost = True
    source = "Gittins' index over learned pauses; times to live as in Continuum (2511.02230)"

    def _key(self, owner: Owner, now: float) -> tuple[float, ...]:
        if owner.waiting_since is not None:
            return (1.0, -owner.waiting_since)
        value = self._returns.value(owner, now)
        if owner.copied:
            value *= owner.seconds / (owner.tokens * self.pool.compute_s_per_token)
        return (0.0, value, owner.used)
