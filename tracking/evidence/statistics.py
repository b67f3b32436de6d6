"""Paired statistics: an interval, a p-value and one word for two strategies run on the same traces.

A pair is a trace on one machine: both strategies ran it there. Where every value is positive the test
looks at log-ratios, else at differences; where a run failed, at signed ranks with the failure as the
worst (`tracking.evidence.ranks`). A strategy is called better or worse only if the 95 % interval
excludes "equal" and the sign-flip p is at most 5 %. That p is against the smallest difference that
matters (`margin`) and corrected over the comparisons of its family. A whole interval inside the margin
reads "equivalent".

Sign flips of n pairs cannot give a p below 2 / 2^n, so one comparison needs 6 pairs for a verdict, four
need 8 (`pairs_needed`). With fewer, an interval that excludes "equal" reads "too few runs", not
"better"; under 5 pairs everything does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Literal

import numpy as np
from scipy.special import ndtr, ndtri, stdtrit  # scipy.stats takes half a second to import

from tracking.evidence.ranks import median_interval, signed_ranks

ALPHA = 0.05
POWER = 0.80
MIN_PAIRS = 5  # fewer give no verdict at all
MIN_BOOTSTRAP_PAIRS = 8  # below: t interval
RESAMPLES = 9_999
NOISE = 1e-9  # differences of floating-point numbers below it never matter, whatever the metric

Verdict = Literal[
    "better",
    "worse",
    "different",
    "equivalent",
    "no difference shown",
    "too few runs",
    "no pressure",
    "late client",
]


@dataclass(frozen=True)
class Interval:
    """A value with its 95 % interval; the ends are NaN when there is only one pair, inf after failures."""

    value: float
    low: float
    high: float

    def excludes(self, value: float) -> bool:
        return bool(self.low > value or self.high < value)

    def within(self, low: float, high: float) -> bool:
        return bool(low <= self.low and self.high <= high)


@dataclass(frozen=True)
class PairedTest:
    """One strategy against the baseline in one metric; `pairs` traces have both.

    `difference` is strategy minus baseline in the metric's unit; `ratio` is the geometric mean of
    strategy / baseline, absent unless all values are positive. After failures both are medians
    (Hodges-Lehmann), and the two means leave the failed runs out. `scores` are what is tested, a value a
    pair (+-inf where one of the two failed), `effect` is their interval and `margin` what matters of
    them. `p_value` is not corrected.
    """

    pairs: int
    baseline_mean: float
    mean: float
    ratio: Interval | None
    p_value: float
    effect: Interval
    margin: float
    scores: np.ndarray = field(repr=False, compare=False)
    differences: np.ndarray = field(repr=False, compare=False)

    @cached_property
    def difference(self) -> Interval:
        return confidence_interval(self.differences)

    @property
    def failed(self) -> int:
        """Pairs in which one of the two failed."""
        return int(np.isinf(self.scores).sum())

    @property
    def excludes_equal(self) -> bool:
        return self.effect.excludes(0.0)

    @property
    def equivalent(self) -> bool:
        """Whether no difference that matters is left in the interval."""
        return self.effect.within(-self.margin, self.margin)

    def smallest_shown(self, comparisons: int = 1) -> float:
        """The smallest difference that a test like this one finds with 80 % power; see `detectable`.

        A share of the baseline (0.03 = 3 %) if there is a ratio, else in the metric's unit. NaN after
        failures and for a single pair; inf if these pairs cannot show any.
        """
        size = detectable(self.scores, self.margin, comparisons)
        return float(np.expm1(size)) if self.ratio else size


def paired_test(
    baseline: Sequence[float],
    strategy: Sequence[float],
    seed: int = 0,
    *,
    matters: float = 0.0,
    by_ratio: bool | None = None,
) -> PairedTest:
    """Compares values of the same traces in the same order; +-inf stands for a run that failed.

    `matters` is the smallest difference that matters, as a share of the baseline. `by_ratio` forces
    ratios (a zero then is a failure) or differences. Raises ValueError on none or unequal lengths.
    """
    a, b = np.asarray(baseline, float), np.asarray(strategy, float)
    if len(a) != len(b) or not len(a):
        raise ValueError(f"paired values: {len(a)} of the baseline and {len(b)} of the strategy")
    whole = np.isfinite(a) & np.isfinite(b)
    if by_ratio is None:
        by_ratio = bool((a[np.isfinite(a)] > 0).all() and (b[np.isfinite(b)] > 0).all())
    base = float(a[whole].mean()) if whole.any() else np.nan
    differences = _scores(a, b, by_ratio=False)
    scores = _scores(a, b, by_ratio=True) if by_ratio else differences
    effect, ratio = confidence_interval(scores, seed), None
    if by_ratio:
        margin = max(float(np.log1p(matters)), NOISE)
        ratio = Interval(*(float(np.exp(x)) for x in (effect.value, effect.low, effect.high)))
    else:
        margin = max(matters * abs(base), NOISE) if whole.any() else NOISE
    return PairedTest(
        len(a), base, float(b[whole].mean()) if whole.any() else np.nan, ratio,
        sign_flip_p(scores, seed, margin), effect, margin, scores, differences,
    )  # fmt: skip


def _scores(a: np.ndarray, b: np.ndarray, by_ratio: bool) -> np.ndarray:
    """log(b / a) or b - a of each pair; +-inf, to the side of the one that failed, and 0 if both did."""
    with np.errstate(divide="ignore", invalid="ignore"):
        scores = np.log(b) - np.log(a) if by_ratio else b - a
    scores = np.where(np.isinf(a) & ~np.isinf(b), -a, scores)
    scores = np.where(np.isinf(b) & ~np.isinf(a), b, scores)
    return np.where((a == b) | np.isnan(scores), 0.0, scores)


def confidence_interval(values: np.ndarray, seed: int = 0) -> Interval:
    """Mean and 95 % interval: BCa bootstrap from 8 values, Student's t below.

    A bootstrap of few values is too narrow (8 normal values: 89 % cover, not 95 %), so its level is
    raised as Hesterberg (2015, "What teachers should know about the bootstrap") does: to the one at
    which a normal quantile equals t * sqrt(n / (n - 1)). Infinite values have no mean: the median.
    """
    n = len(values)
    if np.isinf(values).any():
        return Interval(*median_interval(values, ALPHA))
    mean = float(values.mean())
    if n < 2:
        return Interval(mean, np.nan, np.nan)
    if np.ptp(values) <= 1e-12 * max(1.0, abs(mean)):
        return Interval(mean, mean, mean)
    if n < MIN_BOOTSTRAP_PAIRS:
        half = stdtrit(n - 1, 1 - ALPHA / 2) * values.std(ddof=1) / np.sqrt(n)
        return Interval(mean, mean - float(half), mean + float(half))
    from scipy.stats import bootstrap

    quantile = stdtrit(n - 1, 1 - ALPHA / 2) * np.sqrt(n / (n - 1))
    resampled = bootstrap(
        (values,), np.mean, confidence_level=1 - 2 * ndtr(-quantile), n_resamples=RESAMPLES,
        method="BCa", rng=np.random.default_rng(seed),
    )  # fmt: skip
    low, high = resampled.confidence_interval
    return Interval(mean, float(low), float(high))


def sign_flip_p(values: np.ndarray, seed: int = 0, margin: float = 0.0) -> float:
    """Two-sided p of the mean under random signs, against "no farther from zero than `margin`".

    Exact where 2^n <= 9,999 flips, else sampled. Infinite values are tested by their signed ranks.
    """
    if len(values) < 2 or not np.any(values):
        return 1.0
    return min(1.0, 2 * min(_one_sided_p(values - margin, seed), _one_sided_p(-values - margin, seed)))


def _one_sided_p(values: np.ndarray, seed: int) -> float:
    """Share of sign flips with a sum as large as that of `values`, those as they are included."""
    if np.isinf(values).any():
        values = signed_ranks(values)
    sums = _signs(len(values), seed) @ np.abs(values)
    return float((sums >= values.sum() - 1e-12 * np.abs(values).sum()).mean())


@lru_cache(maxsize=16)
def _signs(n: int, seed: int) -> np.ndarray:
    """All rows of n signs if they are few, else RESAMPLES random ones and, as every sampled p must count
    what was seen, a row of ones (no sum is larger)."""
    if 2**n <= RESAMPLES:
        return 1.0 - 2.0 * (np.arange(2**n)[:, None] >> np.arange(n) & 1)
    drawn = np.random.default_rng(seed).choice([-1.0, 1.0], (RESAMPLES, n))
    return np.vstack([drawn, np.ones(n)])


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction, in the order given."""
    order = np.argsort(p_values)
    corrected, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, p_values[index] * (len(p_values) - rank)))
        corrected[index] = largest
    return corrected


def pairs_needed(comparisons: int) -> int:
    """Fewest pairs with which the smallest p of `comparisons` survives the correction."""
    return int(np.ceil(1 + np.log2(comparisons / ALPHA)))


def detectable(scores: np.ndarray, margin: float, comparisons: int = 1) -> float:
    """The smallest mean score that is found with 80 % power, given the spread of these.

    Student's t at the level of one of `comparisons` (Bonferroni), added to the margin it is tested
    against. Where only pairs that all agree reach that level, the shift that makes them agree. NaN
    without a spread, inf with too few pairs for any verdict.
    """
    n = len(scores)
    if n < 2 or np.isinf(scores).any():
        return np.nan
    if n < max(MIN_PAIRS, pairs_needed(comparisons)):
        return np.inf
    spread, level = float(np.std(scores, ddof=1)), ALPHA / comparisons
    by_t = (stdtrit(n - 1, 1 - level / 2) + stdtrit(n - 1, POWER)) / np.sqrt(n)
    all_agree = ndtri(POWER ** (1 / n)) if 4 / 2**n > level else 0.0
    return margin + spread * float(max(by_t, all_agree))


def verdict(test: PairedTest, corrected_p: float, better: str, comparisons: int) -> Verdict:
    """The word for one comparison of a family; "different" where the metric has no better side."""
    if test.pairs < MIN_PAIRS:
        return "too few runs"
    if test.equivalent:
        return "equivalent"
    if not test.excludes_equal:
        return "no difference shown"
    if test.pairs < pairs_needed(comparisons):
        return "too few runs"
    if corrected_p > ALPHA:
        return "no difference shown"
    if better == "none":
        return "different"
    return "better" if (test.effect.value > 0) == (better == "higher") else "worse"
