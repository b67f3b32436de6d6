"""What the engine's steps show: memory, and the queue that waits for it."""

from __future__ import annotations

import numpy as np

from tracking.metrics.metric import STEPS, metric
from tracking.metrics.samples import largest
from tracking.metrics.view import RunView


@metric("s", "lower", STEPS, "head of the queue blocked")
def hol_blocked_s(run: RunView) -> float:
    """time with free seats while the head of the queue did not fit"""
    if not len(run.result.steps) or not len(run.requests):
        return np.nan
    return run.steps.loc[run.steps["hol_blocked"].astype(bool), "dur"].sum()


@metric("share", "none", STEPS, "KV in use, mean")
def kv_util_mean(run: RunView) -> float:
    """mean over time of KV blocks held by running requests"""
    return np.average(run.kv_share, weights=run.steps["dur"]) if len(run.kv_share) else np.nan


@metric("share", "none", STEPS, "KV in use, max")
def kv_util_max(run: RunView) -> float:
    """largest share of KV blocks held by running requests"""
    return largest(run.kv_share)
