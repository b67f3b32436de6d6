"""Student's t where the noise may be skewed: critical values, p-values, and how skewed the noise may be.

Student's t assumes noise that is normal, and sign flips noise that is symmetric. A skewed one breaks both:
of exponential noise a few pairs often lie close together on the side away from the tail, so that the mean is
off and the spread says that it is not. Nobody sees that in a few pairs. So what is taken for granted is a
bound on the skewness instead, and t is referred to the noise of that skewness for which it is known: a
shifted Gamma (Pearson III), 0 being the normal and 2 the exponential distribution.

The bound comes from the pairs of all comparisons that are made at once (`skew_bound`): one comparison of
ten pairs cannot rule out an exponential, 27 can.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.special import stdtr, stdtrit  # scipy.stats takes half a second to import

MOST_SKEWED = 2.0  # what is assumed where the pairs are too few to tell: exponential noise
SKEWS = np.linspace(0.0, MOST_SKEWED, 9)
DRAWS = 1_000_000  # simulated values for one number of pairs and skewness
SEED = 22
FAR = 100  # simulated t beyond the last that is read off; farther out their tail is a power of t
LIKELY = 1.25  # standard errors that the skewness seen may be below that of the bound


@dataclass(frozen=True)
class Reference:
    """Simulated samples of `n` values: their |t|, sorted, and mean and spread of their squared skewness.

    Beyond what was simulated the tail is that of t with n - 1 degrees of freedom.
    """

    n: int
    t: np.ndarray
    skewness2: float
    skewness2_spread: float

    def p_value(self, t: float) -> float:
        """P(|T| >= t)."""
        edge = self.t[-FAR]
        if t <= edge:
            return float((len(self.t) - np.searchsorted(self.t, t)) / len(self.t))
        return float(FAR / len(self.t) * (edge / t) ** (self.n - 1))

    def critical(self, alpha: float) -> float:
        """The |t| with p = `alpha`."""
        beyond = alpha * len(self.t)
        if beyond >= FAR:
            return float(self.t[len(self.t) - int(beyond)])
        return float(self.t[-FAR] * (FAR / beyond) ** (1 / (self.n - 1)))


@lru_cache(maxsize=256)
def reference(n: int, skew: float, borrowed: int = 0) -> Reference:
    """Samples of `n` >= 2 values from a Gamma of this skewness, or normal ones for 0.

    With `borrowed` degrees of freedom the variance of each sample comes from what a family knows of it
    (`tracking.evidence.spread`), and its t is the moderated one.
    """
    random = np.random.default_rng([SEED, n, borrowed])
    size = (max(10_000, DRAWS // n), n)
    if skew:
        shape = 4 / skew**2
        values = (random.standard_gamma(shape, size) - shape) / np.sqrt(shape)
    else:
        values = random.standard_normal(size)
    if borrowed:
        values *= np.sqrt(borrowed / random.chisquare(borrowed, len(values)))[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        skewness2 = np.nan_to_num(_skewness(values) ** 2)
        variance = ((n - 1) * values.var(axis=1, ddof=1) + borrowed) / (n - 1 + borrowed)
        t = np.abs(values.mean(axis=1)) * np.sqrt(n / variance)
    return Reference(n, np.sort(t), float(skewness2.mean()), float(skewness2.std()))


def t_p_value(t: float, n: int, skew: float, borrowed: int = 0) -> float:
    """Two-sided p of Student's t of `n` pairs, with noise of at most this skewness."""
    if not np.isfinite(t):
        return 0.0
    exact = float(2 * stdtr(n - 1 + borrowed, -abs(t)))
    return max(exact, reference(n, skew, borrowed).p_value(abs(t))) if skew else exact


def critical_t(alpha: float, n: int, skew: float, borrowed: int = 0) -> float:
    """The |t| of `n` pairs that such noise exceeds with probability `alpha`."""
    exact = float(stdtrit(n - 1 + borrowed, 1 - alpha / 2))
    return max(exact, reference(n, skew, borrowed).critical(alpha)) if skew else exact


def skew_bound(samples: Sequence[np.ndarray]) -> float:
    """The largest skewness, of `SKEWS`, that the noise of these samples may well have, either sign.

    Their mean squared skewness is held against what samples of their sizes have under each skewness. 2 where
    they say nothing: few values, or samples without a spread.
    """
    told = telling(samples)
    if not told:
        return MOST_SKEWED
    seen = float(np.mean([_skewness(sample) ** 2 for sample in told]))
    sizes, counts = np.unique([len(sample) for sample in told], return_counts=True)
    for skew in SKEWS[::-1]:
        expected = [reference(int(n), float(skew)) for n in sizes]
        mean = np.average([each.skewness2 for each in expected], weights=counts)
        variance = np.average([each.skewness2_spread**2 for each in expected], weights=counts) / len(told)
        if seen >= mean - LIKELY * np.sqrt(variance):
            return float(skew)
    return 0.0


def telling(samples: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Those that have enough finite values, and a spread, to say anything of the noise."""
    return [some for some in samples if len(some) > 2 and np.isfinite(some).all() and not alike(some)]


def alike(values: np.ndarray) -> bool:
    """Whether values differ by the rounding of floating-point numbers alone."""
    return bool(np.ptp(values) <= 1e-12 * max(1.0, abs(float(values.mean()))))


def _skewness(values: np.ndarray) -> np.ndarray:
    """Of the last axis, of the sample itself (not corrected for its size)."""
    deviations = values - values.mean(axis=-1, keepdims=True)
    return (deviations**3).mean(axis=-1) / (deviations**2).mean(axis=-1) ** 1.5
