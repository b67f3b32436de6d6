"""Limits declared in `conf/guardrails` that a strategy must keep, whatever else it improves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import TYPE_CHECKING, Literal

import numpy as np
from scipy import stats

from tracking.measure import MIN_TAIL, measured_requests, percentile
from tracking.statistics import ALPHA, Interval, paired_test

if TYPE_CHECKING:
    from tracking.config import GuardrailRule
    from tracking.runs import StoredRun

POOLED = {"ttft_p99_s": "ttft", "tpot_p99_s": "tpot", "e2e_p99_s": "e2e"}
ENOUGH = 100 * MIN_TAIL  # requests that a p99 needs

Status = Literal["held", "unsure", "broken", "not measured"]


@dataclass(frozen=True)
class GuardrailCheck:
    """held: the whole interval keeps the limit; broken: none of it does; unsure: the limit lies inside."""

    metric: str
    strategy: str
    limit: str
    ratio: Interval | None
    status: Status
    how: str


def check_guardrail(
    rule: GuardrailRule, strategy: str, blocks: Mapping[str, Mapping[str, Sequence[StoredRun]]], baseline: str
) -> GuardrailCheck:
    """Checks one rule for one strategy over the blocks that have both.

    Where single runs are too short for a p99, the requests of all runs are pooled (`_pooled_ratio`).
    """
    limit = f">= {rule.min_ratio:g}x" if rule.min_ratio is not None else f"<= {rule.max_ratio:g}x"
    names = (baseline, strategy)
    both = [block for block in blocks.values() if all(block.get(name) for name in names)]
    values = [[[run.metrics.get(rule.metric) for run in block[name]] for name in names] for block in both]
    if values and all(v is not None for pair in values for runs in pair for v in runs):
        ratio = paired_test(*zip(*[map(mean, pair) for pair in values], strict=True)).ratio
        how = f"{len(values)} pair{'s' * (len(values) > 1)}" if ratio else "not all values are positive"
    elif rule.metric in POOLED:
        ratio, how = _pooled_ratio(POOLED[rule.metric], both, names)
    else:
        ratio, how = None, "not in every run"
    return GuardrailCheck(rule.metric, strategy, limit, ratio, _status(rule, ratio), how)


def _pooled_ratio(column: str, blocks: list, names: tuple[str, str]) -> tuple[Interval | None, str]:
    """Ratio of the p99 over the requests of all runs, if there are enough of them.

    Its interval comes from leaving out one block at a time (a jackknife of the log-ratio, Student's t),
    since the requests of one run are not independent.
    """
    for name in names:
        have = sum(run.metrics["requests"] for block in blocks for run in block[name])
        if have < ENOUGH:
            return None, f"{have:.0f} requests in all runs; a p99 needs {ENOUGH}"
    values = [[_values(block[name], column) for name in names] for block in blocks]
    logs = _log_ratio(values)
    if not np.isfinite(logs):
        return None, "1 % of the requests or more did not finish"
    how = f"p99 of {min(sum(len(pair[i]) for pair in values) for i in (0, 1))} requests"
    n = len(values)
    left_out = [_log_ratio(values[:i] + values[i + 1 :]) for i in range(n)] if n > 1 else [np.nan]
    if not np.isfinite(left_out).all():
        return Interval(float(np.exp(logs)), np.nan, np.nan), how
    half = stats.t.ppf(1 - ALPHA / 2, n - 1) * np.sqrt((n - 1) * np.var(left_out))
    return Interval(*(float(np.exp(x)) for x in (logs, logs - half, logs + half))), f"{how}, {n} blocks"


def _values(runs: Sequence[StoredRun], column: str) -> np.ndarray:
    return np.concatenate([measured_requests(run.result)[column].dropna() for run in runs])


def _log_ratio(values: list[list[np.ndarray]]) -> float:
    base, other = (percentile(np.concatenate(some), 0.99, min_tail=1) for some in zip(*values, strict=True))
    return float(np.log(other / base))


def _status(rule: GuardrailRule, ratio: Interval | None) -> Status:
    if ratio is None:
        return "not measured"
    low, high = (rule.min_ratio, np.inf) if rule.min_ratio is not None else (-np.inf, rule.max_ratio)
    if np.isnan(ratio.low):
        return "unsure"
    if low <= ratio.low and ratio.high <= high:
        return "held"
    return "broken" if ratio.high < low or ratio.low > high else "unsure"
