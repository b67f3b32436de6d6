"""How evenly the waiting is shared out. Both need the times of a request alone; see `IdealTimes`."""

from __future__ import annotations

import numpy as np

from tracking.metrics.metric import CLIENT, STEPS, metric
from tracking.metrics.samples import average, jain_index
from tracking.metrics.view import RunView


@metric("ratio", "lower", CLIENT, "slowdown")
def slowdown_mean(run: RunView) -> float:
    """mean of E2E / E2E alone, by the ideal times given to all runs of the block; runs stored before
    `ideal_decode_s` was, took them from themselves"""
    return average(run.slowdown)


@metric("index", "higher", CLIENT, "Jain's index")
def jain_slowdown(run: RunView) -> float:
    """Jain's index over slowdown; 1 = all slowed equally"""
    return jain_index(run.slowdown)


@metric("s", "none", STEPS)
def ideal_decode_s(run: RunView) -> float:
    """a decode step of an idle engine, as this run was given it: p5 of the pure decode steps of its
    block's first run"""
    return run.ideal.decode_s if run.ideal else np.nan


@metric("s", "none", STEPS)
def ideal_prefill_s(run: RunView) -> float:
    """the same for a prefilled token: p5 of step time per prefilled token"""
    return run.ideal.prefill_s if run.ideal else np.nan
