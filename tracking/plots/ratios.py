"""Log axes of ratios to a baseline: round ticks around 1, nothing farther than what is drawn."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from matplotlib.axis import Axis
from matplotlib.ticker import NullLocator

FARTHEST = 4.0  # ratios beyond it sit at the edge with their value beside them
FAR_TICKS = (0.25, 0.33, 0.5, 0.7, 1.0, 1.4, 2.0, 3.0, 4.0)
STEPS = (0.01, 0.02, 0.05, 0.1, 0.2)


def clipped(ratio: float) -> float:
    return float(np.clip(ratio, 1 / FARTHEST, FARTHEST))


def reach_of(ratios: Iterable[float], least: float = 1.05) -> float:
    """How far from 1, in logs, an axis must go to show `ratios`; NaN, 0 and inf are not shown in full."""
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.abs(np.log(np.asarray(list(ratios), float)))
    logs = logs[np.isfinite(logs)]
    farthest = logs.max() if len(logs) else 0.0
    return float(np.clip(1.08 * farthest, np.log(least), np.log(FARTHEST) * 1.03))


def ratio_axis(axis: Axis, low: float, high: float, most: int = 5) -> None:
    """A log axis from exp(-low) to exp(high), with at most about `most` round ratios; 1 is always one."""
    first, last = np.exp(-low), np.exp(high)
    axis.axes.set(**{f"{axis.axis_name}scale": "log", f"{axis.axis_name}lim": (first, last)})
    places = [place for place in FAR_TICKS if first <= place <= last]
    if len(places) > most:
        places = [place for place in (0.25, 0.5, 1.0, 2.0, 4.0) if first <= place <= last]
    for step in STEPS:
        fine = [1 + i * step for i in range(-20, 21) if 0 < 1 + i * step and first <= 1 + i * step <= last]
        if len(fine) <= most and len(fine) >= len(places):
            places = fine
            break
    axis.set_ticks(places, [f"{place:.3g}" for place in places])
    axis.set_minor_locator(NullLocator())
