"""Paired statistics: an interval, a p-value and one word for two strategies run on the same traces.

A pair is a trace on one machine: both strategies ran it there. Where every value is positive the test
looks at log-ratios, else at differences: Student's t, with noise that may be as skewed as the pairs leave
possible (`tracking.evidence.skewed`), and a spread that the family may know better
(`tracking.evidence.spread`); where a run of the strategy failed, at signs alone with the failure as
the worst (`tracking.evidence.ranks`). Pairs that are not independent of each other, windows of a recording
with next to nothing between them, count together, as their mean.

A strategy is called better or worse only if the 95 % interval excludes "equal" and the p is at most 5 %.
That p is against the smallest difference that matters (`margin`) and corrected over the comparisons of its
family. A whole interval inside the margin reads "equivalent". Under 6 pairs everything reads "too few runs".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

import numpy as np
from scipy.special import stdtrit  # scipy.stats takes half a second to import

from tracking.evidence.ranks import median_interval, sign_p
from tracking.evidence.skewed import alike, critical_t, skew_bound, t_p_value
from tracking.evidence.spread import ALONE, Spread, spread_of

ALPHA = 0.05
POWER = 0.80
MIN_PAIRS = 6  # fewer give no verdict at all
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
    "no baseline",
    "degraded",
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

    `scores` are what is tested, log-ratios (`by_ratio`) or differences, one for each pair or for each group
    of pairs that are not independent (+-inf where one of the two failed), and `margin` is what matters of
    them. `differences` are strategy minus baseline in the metric's unit. `skew` is how skewed the noise may
    be, and `spread` what its family knows of its variance: p is by it, the intervals are by these pairs alone.
    The two means leave failed runs out.
    """

    pairs: int
    baseline_mean: float
    mean: float
    by_ratio: bool
    margin: float
    skew: float
    scores: np.ndarray = field(repr=False, compare=False)
    differences: np.ndarray = field(repr=False, compare=False)
    spread: Spread = ALONE

    @cached_property
    def effect(self) -> Interval:
        """The mean of the scores with its 95 % interval; after failures the median."""
        return confidence_interval(self.scores, self.skew)

    @cached_property
    def difference(self) -> Interval:
        return confidence_interval(self.differences, self.skew)

    @cached_property
    def ratio(self) -> Interval | None:
        """Geometric mean of strategy / baseline, the median after failures; None unless all values are positive."""
        if not self.by_ratio:
            return None
        with np.errstate(over="ignore"):
            return Interval(*map(float, np.exp([self.effect.value, self.effect.low, self.effect.high])))

    @cached_property
    def p_value(self) -> float:
        """Two-sided, against "no farther from equal than the margin"; not corrected."""
        return mean_p(self.scores, self.margin, self.skew, self.spread)

    @property
    def failed(self) -> int:
        """Scores of pairs in which one of the two failed."""
        return int(np.isinf(self.scores).sum())

    @property
    def excludes_equal(self) -> bool:
        return self.effect.excludes(0.0)

    @property
    def equivalent(self) -> bool:
        """Whether no difference that matters is left in the interval; never where a run failed, whatever the median."""
        return not self.failed and self.effect.within(-self.margin, self.margin)

    def smallest_shown(self, comparisons: int = 1) -> float:
        """The smallest difference that a test like this one finds with 80 % power; see `detectable`.

        A share of the baseline (0.03 = 3 %) if there is a ratio, else in the metric's unit. NaN after
        failures and for a single pair; inf if these pairs cannot show any.
        """
        size = (
            detectable(self.scores, self.margin, comparisons, self.skew, self.spread)
            if self.pairs >= MIN_PAIRS
            else np.inf
        )
        return float(np.expm1(size)) if self.by_ratio else size


def paired_test(
    baseline: Sequence[float],
    strategy: Sequence[float],
    *,
    matters: float = 0.0,
    by_ratio: bool | None = None,
    groups: Sequence[int] | None = None,
    skew: float | None = None,
) -> PairedTest:
    """Compares values of the same traces in the same order; +-inf stands for a run that failed.

    `matters` is the smallest difference that matters, as a share of the baseline. `by_ratio` forces
    ratios (a zero then is a failure) or differences. Pairs with the same number in `groups` count once, as
    their mean. `skew` is how skewed the noise may be; None = as these pairs alone leave possible. Raises
    ValueError on none or unequal lengths.
    """
    a, b = np.asarray(baseline, float), np.asarray(strategy, float)
    if len(a) != len(b) or not len(a):
        raise ValueError(f"paired values: {len(a)} of the baseline and {len(b)} of the strategy")
    whole = np.isfinite(a) & np.isfinite(b)
    if by_ratio is None:
        by_ratio = bool((a[np.isfinite(a)] > 0).all() and (b[np.isfinite(b)] > 0).all())
    base = float(a[whole].mean()) if whole.any() else np.nan
    differences = _grouped(_scores(a, b, by_ratio=False), groups)
    scores = _grouped(_scores(a, b, by_ratio=True), groups) if by_ratio else differences
    if by_ratio:
        margin = max(float(np.log1p(matters)), NOISE)
    else:
        margin = max(matters * abs(base), NOISE) if whole.any() else NOISE
    if skew is None:
        skew = skew_bound([scores])
    other = float(b[whole].mean()) if whole.any() else np.nan
    return PairedTest(len(a), base, other, by_ratio, margin, skew, scores, differences)


def as_family(tests: Sequence[PairedTest]) -> list[PairedTest]:
    """Tests that are made at once, with what their noise tells together; spreads in a metric's unit are not compared."""
    skew = skew_bound([test.scores for test in tests])
    spread = spread_of([test.scores for test in tests if test.by_ratio], skew)
    return [replace(test, skew=skew, spread=spread if test.by_ratio else ALONE) for test in tests]


def _grouped(scores: np.ndarray, groups: Sequence[int] | None) -> np.ndarray:
    if groups is None:
        return scores
    of = np.asarray(groups)
    return np.array([scores[of == group].mean() for group in dict.fromkeys(groups)])


def _scores(a: np.ndarray, b: np.ndarray, by_ratio: bool) -> np.ndarray:
    """log(b / a) or b - a of each pair; +-inf, to the side of the one that failed, and 0 if both did."""
    with np.errstate(divide="ignore", invalid="ignore"):
        scores = np.log(b) - np.log(a) if by_ratio else b - a
    scores = np.where(np.isinf(a) & ~np.isinf(b), -a, scores)
    scores = np.where(np.isinf(b) & ~np.isinf(a), b, scores)
    return np.where((a == b) | np.isnan(scores), 0.0, scores)


def confidence_interval(values: np.ndarray, skew: float = 0.0) -> Interval:
    """Mean and 95 % interval by Student's t, for noise that may be so skewed. Infinite values have no mean:
    the median."""
    n = len(values)
    if np.isinf(values).any():
        return Interval(*median_interval(values, ALPHA))
    mean = float(values.mean())
    if n < 2:
        return Interval(mean, np.nan, np.nan)
    if alike(values):
        return Interval(mean, mean, mean)
    half = critical_t(ALPHA, n, skew) * float(values.std(ddof=1)) / np.sqrt(n)
    return Interval(mean, mean - half, mean + half)


def mean_p(values: np.ndarray, margin: float = 0.0, skew: float = 0.0, spread: Spread = ALONE) -> float:
    """Two-sided p of the mean, against "no farther from zero than `margin`"; infinite values by their signs."""
    n = len(values)
    if n < 2 or not np.any(values):
        return 1.0
    if np.isinf(values).any():
        return min(1.0, 2 * min(sign_p(values - margin), sign_p(-values - margin)))
    beyond = abs(float(values.mean())) - margin
    if beyond <= 0:
        return 1.0
    if alike(values):
        return 0.0
    return t_p_value(beyond * np.sqrt(n) / spread.deviation(values), n, skew, spread.borrowed(n))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction, in the order given."""
    order = np.argsort(p_values)
    corrected, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, p_values[index] * (len(p_values) - rank)))
        corrected[index] = largest
    return corrected


def detectable(
    scores: np.ndarray, margin: float, comparisons: int = 1, skew: float = 0.0, spread: Spread = ALONE
) -> float:
    """The smallest mean score that is found with 80 % power, given the spread of these.

    The critical t at the level of one of `comparisons` (Bonferroni), added to the margin it is tested
    against. NaN after failures, inf with too few scores for a spread.
    """
    n = len(scores)
    if np.isinf(scores).any():
        return np.nan
    if n < 2:
        return np.inf
    more = spread.borrowed(n)
    t = critical_t(ALPHA / comparisons, n, skew, more) + stdtrit(n - 1 + more, POWER)
    return margin + float(spread.deviation(scores) * t / np.sqrt(n))


def verdict(test: PairedTest, corrected_p: float, better: str) -> Verdict:
    """The word for one comparison of a family; "different" where the metric has no better side."""
    if test.pairs < MIN_PAIRS:
        return "too few runs"
    if test.equivalent:
        return "equivalent"
    if not test.excludes_equal or corrected_p > ALPHA:
        return "no difference shown"
    if better == "none":
        return "different"
    return "better" if (test.effect.value > 0) == (better == "higher") else "worse"
