"""What a run is worth in one metric: a value, a failure, or nothing.

A run that failed must lose. Left out, a strategy's worst seeds would make it look better.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mean

import numpy as np

from tracking.metrics.catalogue import METRICS
from tracking.metrics.samples import MIN_TAIL
from tracking.store.reader import StoredRun

Block = Mapping[str, Sequence[StoredRun]]  # strategy -> its runs (repeats) of one trace

ENOUGH = 100 * MIN_TAIL  # requests that a p99 needs
MEANS = {"e2e_rmst_s": ("e2e_mean_s", "e2e"), "ttft_rmst_s": ("ttft_mean_s", "ttft")}
OVER_REQUESTS = ("ttft_", "tpot_", "itl_", "e2e_", "norm_latency", "slowdown", "jain")


def lost(run: StoredRun) -> bool:
    """Whether nothing came out of the run: it failed, or no request was completed."""
    return run.failed or run.metrics.get("completion_rate", 1.0) == 0


def failed_share(run: StoredRun) -> float:
    """The share of its requests that failed, timed out or were never sent."""
    if run.failed:
        return 1.0
    return run.metrics.get("failed_share", 1.0 - run.metrics.get("completion_rate", 1.0))


def outcome(run: StoredRun, metric: str) -> float | None:
    """The value; inf (-inf where higher is better) for a failure; None where there is nothing to measure.

    A metric of the requests that is inf, or missing in a run in which requests failed, is a failure.
    """
    better = METRICS[metric].better
    worst = {"lower": np.inf, "higher": -np.inf, "none": None}[better]
    if lost(run):
        return worst
    value = run.metrics.get(metric, np.nan)
    if np.isnan(value) and metric in MEANS:
        value = _restricted_mean(run, metric)
    if np.isfinite(value):
        return value
    return worst if np.isinf(value) or _fell_on_failures(run, metric) else None


def _restricted_mean(run: StoredRun, metric: str) -> float:
    """The restricted mean of a run stored before there was one: without failures it is the mean."""
    mean_of_all, column = MEANS[metric]
    if not failed_share(run):
        return run.metrics.get(mean_of_all, np.nan)
    limit = float(run.params.get("run.request_timeout_s", np.nan))
    return float(np.minimum(run.latencies[column], limit).mean())


def _fell_on_failures(run: StoredRun, metric: str) -> bool:
    """Whether a missing metric is missing because of failed requests, not for want of requests."""
    too_short = metric.endswith("_p99_s") and run.metrics.get("requests", 0) < ENOUGH
    return metric.startswith(OVER_REQUESTS) and failed_share(run) > 0 and not too_short


def paired_outcomes(
    blocks: Mapping[str, Block], baseline: str, strategy: str, metric: str
) -> list[tuple[float, float]]:
    """(baseline, strategy) of every trace that has both; repeats of a trace are averaged."""
    pairs = []
    for block in blocks.values():
        values = [
            [value for run in block.get(name, ()) if (value := outcome(run, metric)) is not None]
            for name in (baseline, strategy)
        ]
        if all(values):
            pairs.append((mean(values[0]), mean(values[1])))
    return pairs
