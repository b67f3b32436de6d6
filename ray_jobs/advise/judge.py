"""What a candidate is worth against stock on the same traces, while the search goes on."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean, stdev

import numpy as np

from tracking.evidence.config import GuardrailRule
from tracking.evidence.outcomes import outcome
from tracking.evidence.pooled import COLUMNS, p99
from tracking.metrics.catalogue import METRICS
from tracking.metrics.samples import percentile
from tracking.store.reader import StoredRun

Pairs = Sequence[tuple[StoredRun, StoredRun]]  # stock and the candidate on one trace each


def value(run: StoredRun, metric: str) -> float:
    """A run's value; inf (0 where higher is better) if it failed. A p99 here needs no shortest tail."""
    better = METRICS[metric].better
    if metric in COLUMNS and not run.failed:
        return percentile(run.latencies[COLUMNS[metric]].dropna().to_numpy(float), 0.99, min_tail=1)
    found = outcome(run, metric)
    if found is None or np.isinf(found):
        return np.inf if better == "lower" else 0.0
    return found


def log_ratios(pairs: Pairs, metric: str) -> list[float]:
    """log(second / first) on each trace, above 0 where the second is worse; inf if it failed."""
    sign = 1.0 if METRICS[metric].better == "lower" else -1.0
    logs = []
    for pair in pairs:
        base, other = (value(run, metric) for run in pair)
        if base == other:
            logs.append(0.0)
            continue
        with np.errstate(divide="ignore"):
            logs.append(sign * float(np.log(other) - np.log(base)))
    return logs


def log_ratio(pairs: Pairs, metric: str) -> float:
    """Their mean."""
    return fmean(log_ratios(pairs, metric))


def standard_error(pairs: Pairs, metric: str) -> float:
    """Of that mean; 0 with fewer than two traces, inf if one of them failed."""
    logs = log_ratios(pairs, metric)
    if not np.isfinite(logs).all():
        return np.inf
    return stdev(logs) / math.sqrt(len(logs)) if len(logs) > 1 else 0.0


def worsening(pairs: Pairs, rule: GuardrailRule) -> float:
    """How much worse the candidate is in the rule's metric, as a logarithm; NaN if nothing is known.

    A p99 is that of all requests of the traces together: of one short run it says little.
    """
    if rule.metric not in COLUMNS:
        return log_ratio(pairs, rule.metric)
    column = COLUMNS[rule.metric]
    base, other = (
        p99([run.latencies[column].dropna().to_numpy(float) for run in runs if not run.failed] or [[np.inf]])
        for runs in zip(*pairs, strict=True)
    )  # fmt: skip
    with np.errstate(invalid="ignore", divide="ignore"):
        return float(np.log(other) - np.log(base))


def scores(
    pairs: Pairs, metric: str, rules: Sequence[GuardrailRule], allowed: Sequence[float]
) -> list[float]:
    """The lower the better, 0 for stock: the log-ratio of the objective's metric, and all that is beyond a guardrail.

    One score for each share that a guardrail allows of what it does.
    """
    gain = log_ratio(pairs, metric)
    worse = [(worsening(pairs, rule), abs(np.log(rule.limit))) for rule in rules]
    return [
        gain + sum(0.0 if np.isnan(by) else max(0.0, by - share * limit) for by, limit in worse)
        for share in allowed
    ]


def pairs_of(
    runs: Mapping[tuple, StoredRun], stock: object, candidate: object, seeds: Sequence[int]
) -> list[tuple[StoredRun, StoredRun]]:
    """Stock and the candidate on each of the seeds that both have."""
    both = [seed for seed in seeds if (stock, seed) in runs and (candidate, seed) in runs]
    return [(runs[stock, seed], runs[candidate, seed]) for seed in both]
