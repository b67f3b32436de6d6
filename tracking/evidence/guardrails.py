"""Limits declared in `conf/guardrails` that a strategy must keep, whatever else it improves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Literal

import numpy as np

from tracking.evidence.config import GuardrailRule
from tracking.evidence.outcomes import ENOUGH, Block, failed_share, paired_outcomes
from tracking.evidence.pooled import COLUMNS, pooled_ratio, pooled_values
from tracking.evidence.statistics import Interval, paired_test

CATASTROPHE = 0.05  # of the requests or of the runs, lost where the baseline's were not

Status = Literal["held", "unsure", "broken", "not measured"]


@dataclass(frozen=True)
class GuardrailCheck:
    """held: the whole interval keeps the limit; broken: none of it does; unsure: the limit lies inside.

    `ratio` is strategy / baseline; inf or 0 where the strategy failed and the baseline did not.
    """

    metric: str
    strategy: str
    limit: str
    ratio: Interval | None
    status: Status
    how: str


def check_guardrail(
    rule: GuardrailRule, strategy: str, blocks: Mapping[str, Block], baseline: str
) -> GuardrailCheck:
    """Checks one rule for one strategy over the blocks that have both.

    Where single runs are too short for a p99, the requests of all runs are pooled. A strategy that
    loses 5 % of its runs or requests where the baseline does not breaks the rule.
    """
    both = [block for block in blocks.values() if block.get(baseline) and block.get(strategy)]
    pairs = paired_outcomes(blocks, baseline, strategy, rule.metric)
    complete = len(pairs) == len(both) and np.isfinite(pairs).all()
    if not both:
        ratio, status, how = None, "not measured", "no seed has both"
    elif rule.metric in COLUMNS and not complete:
        ratio, status, how = _pooled(rule, both, (baseline, strategy))
    elif len(pairs) < len(both):
        ratio, status, how = None, "not measured", "not in every run"
    else:
        ratio, status, how = _paired(rule, pairs)
    limit = f"{'>=' if rule.max_ratio is None else '<='} {rule.limit:g}x"
    return GuardrailCheck(rule.metric, strategy, limit, ratio, status, how)


def _paired(rule: GuardrailRule, pairs: Sequence[tuple[float, float]]) -> tuple[Interval | None, Status, str]:
    base, other = np.array(pairs).T
    lost, gained = (_is_lost(rule, x) & ~_is_lost(rule, y) for x, y in ((other, base), (base, other)))
    how = f"{len(pairs)} pair{'s' * (len(pairs) > 1)}"
    if (_is_lost(rule, base) & _is_lost(rule, other)).all():
        return None, "not measured", "zero or failed in every run of both"
    ratio = paired_test(base, other, by_ratio=True).ratio
    if lost.any():
        how += f", {lost.sum()} of them lost"
    if (lost.sum() - gained.sum()) / len(pairs) >= CATASTROPHE:
        return ratio, "broken", how
    status = _status(rule, ratio)
    return ratio, "unsure" if lost.any() and status == "held" else status, how


def _is_lost(rule: GuardrailRule, values: np.ndarray) -> np.ndarray:
    return np.isinf(values) | (values == 0 if rule.max_ratio is None else False)


def _pooled(
    rule: GuardrailRule, blocks: Sequence[Block], names: tuple[str, str]
) -> tuple[Interval | None, Status, str]:
    have = [sum(_requests(block, name) for block in blocks) for name in names]
    base_share, share = (_failed_share(blocks, name) for name in names)
    catastrophe = share >= CATASTROPHE and share > rule.limit * base_share
    if min(have) < ENOUGH:
        how = f"{min(have):.0f} requests in all runs; a p99 needs {ENOUGH}"
        return None, "broken" if catastrophe else "not measured", _with_share(how, share)
    values = list(zip(*(pooled_values(blocks, name, rule.metric) for name in names), strict=True))
    ratio = pooled_ratio(values)
    how = f"p99 of {min(sum(len(pair[i]) for pair in values) for i in (0, 1))} requests"
    how = _with_share(f"{how}, {len(values)} blocks" if len(values) > 1 else how, share)
    if catastrophe:
        return None if np.isnan(ratio.value) else ratio, "broken", how
    if np.isnan(ratio.value):
        return None, "unsure", f"{how}; the baseline lost {base_share:.1%}: neither has a p99"
    return ratio, _status(rule, ratio), how


def _with_share(how: str, share: float) -> str:
    return f"{how}; {share:.1%} failed" if share else how


def _requests(block: Block, name: str) -> float:
    return sum(run.metrics.get("requests", 0.0) for run in block[name] if not run.failed)


def _failed_share(blocks: Sequence[Block], name: str) -> float:
    """Over all runs, each with the same weight: a run that failed lost all of its requests."""
    return mean(failed_share(run) for block in blocks for run in block[name])


def _status(rule: GuardrailRule, ratio: Interval) -> Status:
    low, high = (rule.min_ratio, np.inf) if rule.min_ratio is not None else (-np.inf, rule.max_ratio)
    if np.isnan(ratio.low):
        return "unsure"
    if low <= ratio.low and ratio.high <= high:
        return "held"
    return "broken" if ratio.high < low or ratio.low > high else "unsure"
