"""Fits what scheduling costs to measured steps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.optimize import nnls

from ray_jobs.engines.sim.scheduling import TERMS, Counts, SchedulingCost

OUTLIERS = 0.99  # the slowest steps above this quantile say what the machine did, not what the step cost


def fit_cost(counts: Sequence[Counts], seconds: Sequence[float]) -> SchedulingCost:
    """Non-negative least squares over steps, errors weighed by 1 / sqrt(seconds); a count that never occurs costs 0."""
    measured = np.asarray(seconds, float)
    rows = np.array([[1 if c is None else getattr(one, c) for c in TERMS.values()] for one in counts], float)
    weights = 1 / np.sqrt(np.maximum(measured, np.median(measured) / 10))
    kept = np.ones(len(measured), bool)
    for _ in range(2):
        found, _ = nnls(rows[kept] * weights[kept, None], measured[kept] * weights[kept])
        excess = (measured - rows @ found) * weights
        kept = excess <= np.quantile(excess, OUTLIERS)
    return SchedulingCost(**dict(zip(TERMS, found.tolist(), strict=True)))


def cost_errors(cost: SchedulingCost, counts: Sequence[Counts], seconds: Sequence[float]) -> dict[str, float]:
    """`total`: (predicted - measured) / measured of all seconds; `median`: of a step's absolute error. Shares."""
    measured = np.asarray(seconds, float)
    predicted = np.array([cost.stock_seconds(c) + cost.strategy_seconds(c) for c in counts])
    return {
        "steps": len(measured),
        "total": float(predicted.sum() / measured.sum() - 1),
        "median": float(np.median(np.abs(predicted - measured) / measured)),
    }
