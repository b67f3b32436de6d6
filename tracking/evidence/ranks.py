"""Comparisons in which some runs failed: a failure is worse than any value, by no stated amount.

So only the order is left: the sign test, and for the interval the median with the order statistics around it.
Neither takes noise to be symmetric, and a minority of failures cannot move the median to infinity.
"""

from __future__ import annotations

import numpy as np
from scipy.special import bdtr, bdtrc  # scipy.stats takes half a second to import


def sign_p(values: np.ndarray) -> float:
    """One-sided p of "positive as often as negative": that of as many positive values or more; zeros do not count."""
    positive, n = int((values > 0).sum()), int((values != 0).sum())
    return float(bdtrc(positive - 1, n, 0.5)) if positive else 1.0


def median_interval(values: np.ndarray, alpha: float) -> tuple[float, float, float]:
    """Median with the ends of its 1 - alpha interval, both of them values; values may be infinite.

    Too few values for that level (under 6 for 95 %) have the interval (-inf, inf), a single one NaN.
    """
    n = len(values)
    if n == 1:
        return float(values[0]), np.nan, np.nan
    if (values == values[0]).all():
        return (float(values[0]),) * 3
    ordered = np.sort(values)
    left_out = int((bdtr(np.arange(n // 2), n, 0.5) <= alpha / 2).sum())  # at either end
    if not left_out:
        return float(_median(ordered)), -np.inf, np.inf
    return float(_median(ordered)), float(ordered[left_out - 1]), float(ordered[-left_out])


def _median(ordered: np.ndarray) -> float:
    """The middle of sorted values; the lower of the two middle ones if their mean does not exist."""
    low, high = ordered[(len(ordered) - 1) // 2], ordered[len(ordered) // 2]
    return low if low == high or np.isinf(low) and np.isinf(high) else (low + high) / 2
