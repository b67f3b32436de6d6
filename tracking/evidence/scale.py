"""Where a cell lies on axes that know no model and no device: how many requests its pool fits, and how near its load is to capacity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import floor, isnan, log10
from statistics import fmean

from tracking.metrics.catalogue import METRICS
from tracking.metrics.view import RunView
from tracking.store.reader import StoredRun

FITS, SESSIONS_FIT, LOAD = "pool_fits", "pool_fits_sessions", "load_of_capacity"


@dataclass(frozen=True)
class Scale:
    """Means over runs; None where nobody knows.

    `fits` is the pool by the mean request's footprint (tokens of prompt and output), `sessions_fit` by that of a live
    session, `load` the offered rate by the engine's capacity.
    """

    fits: float | None = None
    sessions_fit: float | None = None
    load: float | None = None

    @property
    def text(self) -> str:
        """Such as "34 requests fit, at 95 % of capacity"; empty if nothing is known."""
        parts = [f"{_count(self.fits)} requests fit"] if self.fits is not None else []
        if self.sessions_fit is not None:
            parts.append(f"{_count(self.sessions_fit)} live sessions fit")
        if self.load is not None:
            parts.append(f"at {100 * self.load:.3g} % of capacity")
        return ", ".join(parts)

    @property
    def short(self) -> str:
        """For an axis: "34 fit, 95 %"."""
        parts = [f"{_count(self.fits)} fit"] if self.fits is not None else []
        return ", ".join(parts + ([f"{100 * self.load:.3g} %"] if self.load is not None else []))


def scale_of(runs: Sequence[StoredRun]) -> Scale:
    """Of runs of one cell: the scale is of what was to be run, so that all strategies have the same."""
    return Scale(_pool(runs, FITS), _pool(runs, SESSIONS_FIT), _mean([run.load_of_capacity for run in runs]))


def mean_of(runs: Sequence[StoredRun], metric: str) -> float | None:
    """Over the runs that have it."""
    return _mean([run.metrics.get(metric) for run in runs])


def _pool(runs: Sequence[StoredRun], metric: str) -> float | None:
    """Of runs that were stored before there was such a metric: what the records of the first say."""
    known = mean_of(runs, metric)
    if known is not None or not runs or any(FITS in run.metrics for run in runs):
        return known
    try:
        result = runs[0].load_result()
    except ValueError:  # the store has no records, which a report says elsewhere
        return None
    value = METRICS[metric](RunView(result))
    return None if isnan(value) else value


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def _count(value: float) -> str:
    """Two digits: "3.4", "34", "340"."""
    digits = 1 - floor(log10(value)) if value > 0 else 0
    return f"{round(value, digits):,.{max(0, digits)}f}"
