"""Where there is no answer: what the traces could have shown, and how much time would bring one."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ray_jobs.advise.advise import Advice
from ray_jobs.advise.config import RecommendConfig, metric_of
from ray_jobs.advise.confirm import Confirmation
from ray_jobs.advise.file_sizes import recorded_requests
from ray_jobs.advise.lab import sized
from ray_jobs.advise.traces import SEARCHED_SHARE, is_parted
from tracking.evidence.statistics import MIN_PAIRS, PairedTest, detectable
from tracking.metrics.catalogue import METRICS

SMALL = 0.03  # what cannot be an improvement by this share is no reason to look on
MOST_PAIRS = 200
SPARE = 1.3  # times what was measured: the next run's traces are others


@dataclass(frozen=True)
class MoreTime:
    """`shows`: the smallest difference that the traces would have shown, a share; None if there are too few.
    `log_requests`: of a recording, which gives no more traces however long one looks: how long it would have to be."""

    minutes: int
    pairs: int
    shows: float | None
    strategy: str | None  # the one that is undecided
    log_requests: int | None = None


def more_time(config: RecommendConfig, advice: Advice) -> MoreTime | None:
    """None if there is an answer, be it "keep stock"."""
    if advice.chosen is not None or advice.pressure is not None and not advice.pressure.any:
        return None
    sign = 1.0 if METRICS[metric_of(config)].better == "lower" else -1.0
    undecided = [done for done in advice.confirmations if is_open(done, sign)]
    if undecided:
        best = min(undecided, key=lambda done: sign * done.test.effect.value)
        pairs = pairs_for(best.test, len(advice.finalists))
        shows = best.test.smallest_shown(len(advice.finalists))
        return time_for(config, advice, pairs, shows if math.isfinite(shows) else None, best.strategy)
    if len(advice.confirmations) < len(advice.finalists) or not advice.search.complete:
        return time_for(config, advice, config.search.confirm_seeds, None, None)
    return None


def is_open(done: Confirmation, sign: float) -> bool:
    """Whether more traces could still make a recommendation of it; `sign` is 1 where lower is better, else -1."""
    if done.word == "better":
        return not any(check.status == "broken" for check in done.guardrails)
    if done.word == "too few runs":
        return True
    best = min(sign * done.test.effect.low, sign * done.test.effect.high)
    return done.word == "no difference shown" and best < -SMALL


def pairs_for(test: PairedTest, comparisons: int) -> int:
    """As many pairs as would show the difference that these suggest, or one of SMALL if they suggest less."""
    wanted = max(abs(test.effect.value), math.log1p(SMALL)) if test.by_ratio else abs(test.effect.value)
    if test.failed or len(test.scores) < 2:
        return max(2 * MIN_PAIRS, 2 * test.pairs)
    at_hand = detectable(test.scores, 0.0, comparisons, test.skew)
    pairs = math.ceil(len(test.scores) * (at_hand / max(wanted - test.margin, 1e-9)) ** 2)
    return min(MOST_PAIRS, max(MIN_PAIRS + 2, test.pairs, pairs))


def time_for(
    config: RecommendConfig, advice: Advice, pairs: int, shows: float | None, strategy: str | None
) -> MoreTime:
    """The search again, and so many pairs for each finalist."""
    done = advice.confirmation
    measured = advice.confirm_s / done.pairs if done is not None and done.pairs else advice.seconds / 4
    wanted = advice.begin_s + advice.search_s + pairs * measured
    minutes = max(math.ceil(SPARE * wanted / 60), math.floor(config.budget_s / 60) + 1)
    if not is_parted(sized(config.workload, config.search.confirm_requests)):
        return MoreTime(minutes, pairs, shows, strategy)
    requests = math.ceil(pairs * config.search.confirm_requests / (1 - SEARCHED_SHARE) / 100) * 100
    if requests <= recorded_requests(config):
        return MoreTime(minutes, pairs, shows, strategy)
    return MoreTime(minutes, pairs, shows, strategy, requests)
