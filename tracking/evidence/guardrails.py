"""Limits declared in `conf/guardrails` that a strategy must keep, whatever else it improves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import mean
from typing import Literal

import numpy as np
from scipy.special import stdtrit

from tracking.evidence.config import GuardrailRule
from tracking.evidence.neighbours import groups
from tracking.evidence.outcomes import ENOUGH, Block, Pairing, failed_share, lost, pairing
from tracking.evidence.pooled import COLUMNS, FEWEST, p99_pairing
from tracking.evidence.skewed import critical_t, skew_bound
from tracking.evidence.statistics import ALPHA, POWER, Interval, PairedTest, paired_test

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


@dataclass(frozen=True)
class Guarded:
    """What a rule is checked on: the pairs of one strategy, None if nothing was measured (`why`)."""

    strategy: str
    found: Pairing | None = None
    test: PairedTest | None = None  # None too where no pair has a value
    gained: int = 0  # blocks in which only the baseline lost
    shares: tuple[float, float] = (0.0, 0.0)  # of requests that failed, the baseline's and the strategy's
    requests: float = 0.0  # of a block, on average
    why: str = ""


def check_guardrail(
    rule: GuardrailRule, strategy: str, blocks: Mapping[str, Block], baseline: str
) -> GuardrailCheck:
    """Checks one rule for one strategy over the blocks that have both, alone."""
    return check_all(rule, [guarded(rule, strategy, blocks, baseline)])[0]


def check_all(rule: GuardrailRule, cases: Sequence[Guarded]) -> list[GuardrailCheck]:
    """Checks one rule for several strategies and loads at once: how skewed their noise may be is asked of all."""
    skew = skew_bound([case.test.scores for case in cases if case.test is not None])
    return [_check(rule, case, skew) for case in cases]


def guarded(rule: GuardrailRule, strategy: str, blocks: Mapping[str, Block], baseline: str) -> Guarded:
    """The pairs that a rule is checked on. A p99 is compared within each block, on the same requests."""
    both = {seed: block for seed, block in blocks.items() if block.get(baseline) and block.get(strategy)}
    if not both:
        return Guarded(strategy, why="no seed has both")
    shares = tuple(
        mean(failed_share(run) for block in both.values() for run in block[name])
        for name in (baseline, strategy)
    )
    requests = mean(_requests(block, baseline) for block in both.values())
    if rule.metric in COLUMNS:
        found = p99_pairing(both, baseline, strategy, rule.metric)
        if found is None:
            why = f"{requests * len(both):.0f} requests in all runs; a p99 needs {ENOUGH}, and {FEWEST} in each block"
            return Guarded(strategy, shares=shares, why=why)
    else:
        found = pairing(both, baseline, strategy, rule.metric)
        if len(found.seeds) + len(found.no_baseline) < len(both):
            return Guarded(strategy, why="not in every run")
    base, other = np.array(found.baseline), np.array(found.strategy)
    gained = sum(not all(map(lost, both[seed][strategy])) for seed in found.no_baseline)
    if rule.metric not in COLUMNS and len(base) and (_is_lost(rule, base) & _is_lost(rule, other)).all():
        return Guarded(strategy, why="zero or failed in every run of both")
    test = paired_test(base, other, by_ratio=True, groups=groups(both, found.seeds)) if found.seeds else None
    return Guarded(strategy, found, test, gained, shares, requests)


def _check(rule: GuardrailRule, case: Guarded, skew: float) -> GuardrailCheck:
    limit = f"{'>=' if rule.max_ratio is None else '<='} {rule.limit:g}x"
    ratio, status, how = _judged(rule, case, skew)
    return GuardrailCheck(rule.metric, case.strategy, limit, ratio, status, how)


def _judged(rule: GuardrailRule, case: Guarded, skew: float) -> tuple[Interval | None, Status, str]:
    tail = rule.metric in COLUMNS
    base_share, share = case.shares
    failed = f"; {share:.1%} failed" if tail and share else ""
    catastrophe = tail and share >= CATASTROPHE and share > rule.limit * base_share
    if case.found is None:
        return None, "broken" if catastrophe else "not measured", case.why + failed
    if case.test is None:
        if case.gained and not catastrophe:
            return Interval(0.0, 0.0, 0.0), "held", f"the baseline lost all{failed}"
        how = f"the baseline lost {base_share:.1%} of its requests: neither has a value"
        return None, "broken" if catastrophe else "unsure", how
    test = replace(case.test, skew=skew)
    base, other = np.array(case.found.baseline), np.array(case.found.strategy)
    lost_in = int((_is_lost(rule, other) & ~_is_lost(rule, base)).sum())
    gained = case.gained + int((_is_lost(rule, base) & ~_is_lost(rule, other)).sum())
    how = f"{test.pairs} pair{'s' * (test.pairs > 1)}" + (f", {lost_in} of them lost" if lost_in else "")
    if tail:
        how = f"p99 within {test.pairs} block{'s' * (test.pairs > 1)} of {case.requests:.0f} requests" + (
            f", {lost_in} of them lost" if lost_in else ""
        )
    if catastrophe or (lost_in - gained) / (test.pairs + case.gained) >= CATASTROPHE:
        return test.ratio, "broken", how + failed
    status = _status(rule, test.ratio)
    if lost_in and status == "held":
        status = "unsure"
    if status == "unsure" and not lost_in:
        how += _wanted(rule, test, case.requests if tail else None)
    return test.ratio, status, how + failed


def _wanted(rule: GuardrailRule, test: PairedTest, requests: float | None) -> str:
    """How much longer runs (of a p99), or how many pairs, would tell equal from the limit with 80 % power."""
    n, room = len(test.scores), abs(float(np.log(rule.limit)))
    if n < 2 or not room:
        return ""
    t = critical_t(ALPHA, n, test.skew) + stdtrit(n - 1, POWER)
    more = (t * float(np.std(test.scores, ddof=1)) / np.sqrt(n) / room) ** 2
    if more <= 1:  # it is the estimate that is near the limit
        return ""
    if requests is None:
        return f"; about {np.ceil(more * test.pairs):.0f} pairs would tell"
    return f"; about {np.ceil(more * requests / 100) * 100:.0f} requests a run would tell"


def _is_lost(rule: GuardrailRule, values: np.ndarray) -> np.ndarray:
    return np.isinf(values) | (values == 0 if rule.max_ratio is None else False)


def _requests(block: Block, name: str) -> float:
    return sum(run.metrics.get("requests", 0.0) for run in block[name] if not run.failed)


def _status(rule: GuardrailRule, ratio: Interval) -> Status:
    low, high = (rule.min_ratio, np.inf) if rule.min_ratio is not None else (-np.inf, rule.max_ratio)
    if np.isnan(ratio.low):
        return "unsure"
    if low <= ratio.low and ratio.high <= high:
        return "held"
    return "broken" if ratio.high < low or ratio.low > high else "unsure"
