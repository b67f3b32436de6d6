"""Comparisons in which some runs failed: a failure is worse than any value, by no stated amount.

So only ranks are left: Wilcoxon's signed ranks for the test, and for the interval the median of all
averages of two pairs (Hodges and Lehmann 1963), which a minority of failures cannot move to infinity.
"""

from __future__ import annotations

import numpy as np


def signed_ranks(values: np.ndarray) -> np.ndarray:
    """Ranks of the sizes (ties share their mean rank, zeros are 0) with the signs of the values."""
    from scipy.stats import rankdata  # takes half a second to import, and hardly any sweep has failures

    return np.sign(values) * rankdata(np.abs(values))


def median_interval(values: np.ndarray, alpha: float) -> tuple[float, float, float]:
    """Hodges-Lehmann median with the ends of its exact 1 - alpha interval; values may be infinite.

    Too few values for that level (under 6 for 95 %) have the interval (-inf, inf), a single one NaN.
    """
    n = len(values)
    if n == 1:
        return float(values[0]), np.nan, np.nan
    if (values == values[0]).all():
        return (float(values[0]),) * 3
    first, second = np.triu_indices(n)
    with np.errstate(invalid="ignore"):
        averages = values[first] / 2 + values[second] / 2
    averages = np.sort(np.nan_to_num(averages, nan=0.0, posinf=np.inf, neginf=-np.inf))
    skipped = np.searchsorted(_rank_sum_cdf(n), alpha / 2, side="right")  # averages left out at either end
    if not skipped:
        return float(_median(averages)), -np.inf, np.inf
    return float(_median(averages)), float(averages[skipped - 1]), float(averages[-skipped])


def _rank_sum_cdf(n: int) -> np.ndarray:
    """P(W <= 0), P(W <= 1), ... of Wilcoxon's signed-rank sum of n values."""
    counts = np.ones(1)
    for rank in range(1, n + 1):
        counts = np.convolve(counts, [1.0, *[0.0] * (rank - 1), 1.0])
    return np.cumsum(counts) / 2.0**n


def _median(ordered: np.ndarray) -> float:
    """The middle of sorted values; the lower of the two middle ones if their mean does not exist."""
    low, high = ordered[(len(ordered) - 1) // 2], ordered[len(ordered) // 2]
    return low if low == high or np.isinf(low) and np.isinf(high) else (low + high) / 2
