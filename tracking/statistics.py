"""Paired statistics: an interval, a p-value and one word for two strategies run on the same blocks.

A block is a seed on one machine: both strategies ran its frozen trace there. Where every value is
positive the test looks at log-ratios, else at differences. A strategy is called better or worse only
if the 95 % interval excludes "equal" and the permutation p, corrected over the strategies, is at most
5 %. Sign flips of n pairs cannot give a p below 2 / 2^n, so with 1 strategy against the baseline a
verdict needs 6 pairs, with 4 strategies 8 (`pairs_needed`). With fewer, an interval that excludes
"equal" reads "too few runs", not "better"; under 5 pairs everything does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats

ALPHA = 0.05
MIN_PAIRS = 5  # fewer give no verdict at all
MIN_BOOTSTRAP_PAIRS = 8  # below: t interval
RESAMPLES = 9_999

Verdict = Literal["better", "worse", "different", "no difference shown", "too few runs", "no pressure"]


@dataclass(frozen=True)
class Interval:
    """A value with its 95 % interval; the ends are NaN when there is only one pair."""

    value: float
    low: float
    high: float

    def excludes(self, value: float) -> bool:
        return bool(self.low > value or self.high < value)


@dataclass(frozen=True)
class PairedTest:
    """One strategy against the baseline in one metric; `pairs` blocks have both.

    `difference` is strategy minus baseline in the metric's unit; `ratio` is the geometric mean of
    strategy / baseline, absent unless all values are positive. `p_value` is not corrected.
    """

    pairs: int
    baseline_mean: float
    mean: float
    difference: Interval
    ratio: Interval | None
    p_value: float

    @property
    def excludes_equal(self) -> bool:
        """Whether the tested interval (of the ratio if there is one) leaves out "equal"."""
        return self.ratio.excludes(1.0) if self.ratio else self.difference.excludes(0.0)


def paired_test(baseline: Sequence[float], strategy: Sequence[float], seed: int = 0) -> PairedTest:
    """Compares values of the same blocks in the same order. Raises ValueError on none or unequal lengths."""
    a, b = np.asarray(baseline, float), np.asarray(strategy, float)
    if len(a) != len(b) or not len(a):
        raise ValueError(f"paired values: {len(a)} of the baseline and {len(b)} of the strategy")
    difference = confidence_interval(b - a, seed)
    ratio = None
    if (a > 0).all() and (b > 0).all():
        tested = np.log(b / a)
        logs = confidence_interval(tested, seed)
        ratio = Interval(*(float(np.exp(x)) for x in (logs.value, logs.low, logs.high)))
    else:
        tested = b - a
    return PairedTest(len(a), a.mean(), b.mean(), difference, ratio, sign_flip_p(tested, seed))


def confidence_interval(values: np.ndarray, seed: int = 0) -> Interval:
    """Mean and 95 % interval: BCa bootstrap from 8 values, Student's t below.

    A bootstrap of few values is too narrow (8 normal values: 89 % cover, not 95 %), so its level is
    raised as Hesterberg (2015, "What teachers should know about the bootstrap") does: to the one at
    which a normal quantile equals t * sqrt(n / (n - 1)).
    """
    n, mean = len(values), float(values.mean())
    if n < 2:
        return Interval(mean, np.nan, np.nan)
    if np.ptp(values) <= 1e-12 * max(1.0, abs(mean)):
        return Interval(mean, mean, mean)
    if n < MIN_BOOTSTRAP_PAIRS:
        half = stats.t.ppf(1 - ALPHA / 2, n - 1) * stats.sem(values)
        return Interval(mean, mean - float(half), mean + float(half))
    quantile = stats.t.ppf(1 - ALPHA / 2, n - 1) * np.sqrt(n / (n - 1))
    bootstrap = stats.bootstrap(
        (values,), np.mean, confidence_level=1 - 2 * stats.norm.sf(quantile), n_resamples=RESAMPLES,
        method="BCa", rng=np.random.default_rng(seed),
    )  # fmt: skip
    low, high = bootstrap.confidence_interval
    return Interval(mean, float(low), float(high))


def sign_flip_p(values: np.ndarray, seed: int = 0) -> float:
    """Two-sided p of the mean under random signs: exact where 2^n <= 9,999 flips, else sampled."""
    if len(values) < 2 or not np.any(values):
        return 1.0
    test = stats.permutation_test(
        (values,), lambda x, axis: x.mean(axis=axis), permutation_type="samples", n_resamples=RESAMPLES,
        vectorized=True, rng=np.random.default_rng(seed),
    )  # fmt: skip
    return float(test.pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction, in the order given."""
    order = np.argsort(p_values)
    corrected, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, p_values[index] * (len(p_values) - rank)))
        corrected[index] = largest
    return corrected


def pairs_needed(strategies: int) -> int:
    """Fewest pairs with which the smallest p of `strategies` comparisons survives the correction."""
    return int(np.ceil(1 + np.log2(strategies / ALPHA)))


def verdict(test: PairedTest, corrected_p: float, better: str, strategies: int) -> Verdict:
    """The word for one comparison out of `strategies`; "different" where the metric has no better side."""
    if test.pairs < MIN_PAIRS:
        return "too few runs"
    if not test.excludes_equal:
        return "no difference shown"
    if test.pairs < pairs_needed(strategies):
        return "too few runs"
    if corrected_p > ALPHA:
        return "no difference shown"
    if better == "none":
        return "different"
    higher = test.ratio.value > 1 if test.ratio else test.difference.value > 0
    return "better" if higher == (better == "higher") else "worse"
