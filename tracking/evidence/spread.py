"""How wide the noise of a comparison is, told by the other comparisons of its family as well.

Eight pairs say little of their own spread, and 27 tests at once ask of it what happens once in 540 times. Where
the spreads of a family are alike, they are known better together: each variance moves towards the family's,
by as many degrees of freedom as that is worth (moderated t, Smyth 2004, as for gene expression). How much it is
worth is estimated from how far the variances lie apart, one standard error on the cautious side, and never
more than a comparison's own pairs. Where they lie far apart, or the noise may be very skewed, it is nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import digamma, polygamma  # scipy.stats takes half a second to import

from tracking.evidence.skewed import telling

CAUTION = 1.0  # standard errors that the variances may lie farther apart than seen
TOO_SKEWED = 1.5  # variances of more skewed noise depend on its means: nothing is borrowed


@dataclass(frozen=True)
class Spread:
    """What a family knows of the variance of a score: worth `freedom` degrees of freedom, 0 if nothing."""

    variance: float = 1.0
    freedom: int = 0

    def borrowed(self, n: int) -> int:
        """Degrees of freedom for a comparison of `n` scores: at most as many as it has itself."""
        return min(self.freedom, n - 1)

    def deviation(self, scores: np.ndarray) -> float:
        """The standard deviation of n >= 2 scores with what is borrowed."""
        own, more = len(scores) - 1, self.borrowed(len(scores))
        return float(np.sqrt((own * scores.var(ddof=1) + more * self.variance) / (own + more)))


ALONE = Spread()


def spread_of(samples: Sequence[np.ndarray], skew: float) -> Spread:
    """What these samples, with noise of at most this skewness, tell together; those without a spread tell nothing."""
    told = telling(samples)
    if len(told) < 2 or skew > TOO_SKEWED:
        return ALONE
    half = np.array([len(sample) - 1 for sample in told]) / 2
    logs = np.log([sample.var(ddof=1) for sample in told]) - digamma(half) + np.log(half)
    apart = logs.var(ddof=1) * (1 + CAUTION * np.sqrt(2 / (len(told) - 1))) - polygamma(1, half).mean()
    worth = np.arange(1, int(2 * half.max()) + 1)
    worth = worth[polygamma(1, worth / 2) >= apart]
    if not len(worth):
        return ALONE
    freedom = int(worth[-1])
    return Spread(float(np.exp(logs.mean() + digamma(freedom / 2) - np.log(freedom / 2))), freedom)
