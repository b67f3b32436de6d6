"""What a run is worth in one metric: a value, a failure, or nothing; and which pairs a comparison has.

A run that failed must lose. Left out, a strategy's worst seeds would make it look better. The same holds for
a run that finished without what it owes, and for one whose own client was late. A baseline that has no result
is no evidence for anybody: its pair is left out, and counted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import mean

import numpy as np

from tracking.metrics.catalogue import METRICS
from tracking.metrics.samples import MIN_TAIL
from tracking.store.reader import StoredRun

Block = Mapping[str, Sequence[StoredRun]]  # strategy -> its runs (repeats) of one trace

ENOUGH = 100 * MIN_TAIL  # requests that a p99 needs
FEWER = 0.99  # a run with less than this share of the requests that were measured beside it has lost some
MEANS = {"e2e_rmst_s": ("e2e_mean_s", "e2e"), "ttft_rmst_s": ("ttft_mean_s", "ttft")}
LARGEST = {"e2e_largest_s": "e2e", "ttft_largest_s": "ttft"}
TAKES_TIME = ("ttft_", "e2e_")  # begin metrics of which a value of 0 or less is no measurement
OVER_REQUESTS = ("ttft_", "tpot_", "itl_", "e2e_", "norm_latency", "slowdown", "jain")


@dataclass
class Pairing:
    """The pairs of a strategy with the baseline in one metric, and the blocks that give none.

    `seeds`, `baseline` and `strategy` have one entry a pair; a failure of the strategy is +-inf.
    """

    seeds: list[str] = field(default_factory=list)
    baseline: list[float] = field(default_factory=list)
    strategy: list[float] = field(default_factory=list)
    no_baseline: list[str] = field(default_factory=list)  # the baseline failed, never ran, or lacks the value
    absent: list[str] = field(default_factory=list)  # the strategy never ran, or was interrupted

    @property
    def pairs(self) -> list[tuple[float, float]]:
        return list(zip(self.baseline, self.strategy, strict=True))


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
    worst = _worst(metric)
    if lost(run):
        return worst
    value = run.metrics.get(metric, np.nan)
    if value <= 0 and metric.startswith(TAKES_TIME):
        value = np.nan
    if np.isnan(value) and metric in MEANS:
        value = _restricted_mean(run, metric)
    if np.isnan(value) and metric in LARGEST:
        value = _of_largest(run, LARGEST[metric])
    if np.isfinite(value):
        return value
    return worst if np.isinf(value) or _fell_on_failures(run, metric) else None


def _worst(metric: str) -> float | None:
    return {"lower": np.inf, "higher": -np.inf, "none": None}[METRICS[metric].better]


def _restricted_mean(run: StoredRun, metric: str) -> float:
    """The restricted mean of a run stored before there was one: without failures it is the mean."""
    mean_of_all, column = MEANS[metric]
    if not failed_share(run):
        return run.metrics.get(mean_of_all, np.nan)
    limit = float(run.params.get("run.request_timeout_s", np.nan))
    return float(np.minimum(run.latencies[column], limit).mean())


def _of_largest(run: StoredRun, column: str) -> float:
    """The mean over the largest requests of a run stored before there was one; NaN where nobody knows them."""
    try:
        table = run.latencies
    except ValueError:  # the store has no request tables, which the comparison says elsewhere
        return np.nan
    limit = float(run.params.get("run.request_timeout_s", np.nan))
    return float(np.minimum(table.loc[table["largest"], column], limit).mean())


def _too_short(run: StoredRun, metric: str) -> bool:
    """Whether the run has too few requests for the metric."""
    return metric.endswith("_p99_s") and run.metrics.get("requests", 0) < ENOUGH


def _fell_on_failures(run: StoredRun, metric: str) -> bool:
    """Whether a missing metric is missing because of failed requests, not for want of requests."""
    return metric.startswith(OVER_REQUESTS) and failed_share(run) > 0 and not _too_short(run, metric)


def pairing(
    blocks: Mapping[str, Block], baseline: str, strategy: str, metric: str, owed: bool = False
) -> Pairing:
    """The pairs of every trace that has both; repeats of a trace are averaged.

    Where the metric is `owed` (the primary), a strategy's finished run without it has failed. So has, for any
    metric, a run whose client was late, or that measured fewer requests, where the baseline's was and did not.
    A baseline that measured fewer requests than the strategy has no result.
    """
    found = Pairing()
    runs = [run for block in blocks.values() for run in block.get(strategy, ())]
    has_it = any(outcome(run, metric) is not None for run in runs if not lost(run))
    for seed, block in blocks.items():
        base, other = block.get(baseline, ()), block.get(strategy, ())
        if not base or not other:
            (found.no_baseline if other else found.absent).append(seed)
            continue
        values = [value for run in base if (value := _of_baseline(run, other, metric)) is not None]
        theirs = [_against(base, run, metric, owed and has_it) for run in other]
        theirs = [value for value in theirs if value is not None]
        if values and np.isfinite(values).all():
            if theirs:
                found.seeds.append(seed)
                found.baseline.append(mean(values))
                found.strategy.append(mean(theirs))
        elif values or theirs:
            found.no_baseline.append(seed)
    return found


def _of_baseline(run: StoredRun, other: Sequence[StoredRun], metric: str) -> float | None:
    """What a baseline's run is worth beside the strategy's runs of its block; inf if it is worth nothing."""
    return np.inf if measured_fewer(run, other) else outcome(run, metric)


def _against(base: Sequence[StoredRun], run: StoredRun, metric: str, owed: bool) -> float | None:
    """What a strategy's run is worth beside the baseline's runs of its block."""
    value = outcome(run, metric)
    if fell_behind(base, run) or (value is None and owed and not _too_short(run, metric)):
        return _worst(metric)
    return value


def fell_behind(base: Sequence[StoredRun], run: StoredRun) -> bool:
    """Whether the strategy's run alone had a late client, or measured fewer requests than the baseline's."""
    late = run.late_client and not any(b.late_client for b in base)
    return not run.failed and (measured_fewer(run, base) or late)


def measured_fewer(run: StoredRun, others: Sequence[StoredRun]) -> bool:
    """Whether a finished run measured fewer requests than others of the same trace."""
    measured = [o.metrics["requests"] for o in others if not o.failed and "requests" in o.metrics]
    few = bool(measured) and run.metrics.get("requests", np.inf) < FEWER * max(measured)
    return not run.failed and few
