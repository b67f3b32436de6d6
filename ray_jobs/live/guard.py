"""What is watched while the experiment runs: harm that shows in a block, and limits that pairs of blocks break."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from ray_jobs.live.config import HaltConfig
from ray_jobs.live.served import Requests, Served
from tracking.evidence.config import GuardrailRule
from tracking.evidence.guardrails import Status
from tracking.evidence.statistics import ALPHA, MIN_PAIRS
from tracking.metrics.samples import LARGEST_SHARE, percentile

BEFORE = 3  # stock blocks that say how many end in a minute
TAIL = 1000  # requests of each kind that a p99 needs; pairs are taken together until there are so many
LARGE = 50  # requests of each kind of which the largest are few enough


@dataclass(frozen=True)
class Span:
    """A block without its washout, in seconds since the epoch."""

    strategy: bool
    begin: float
    end: float


@dataclass(frozen=True)
class Check:
    """One rule on the pairs so far: `low` and `high` are the interval of strategy / stock, nan where it was not measured."""

    metric: str
    limit: str
    status: Status
    ratio: float
    low: float
    high: float


def harm_in_block(
    served: Served, span: Span, now: float, before: Sequence[Span], halt: HaltConfig
) -> str | None:
    """Why the strategy's block `span` must end at once; None if nothing shows. `before` are stock's spans, the last last.

    A surge of traffic makes waits several times as long under any strategy. So a block is held against the slowest of
    stock's, and only where the server yields no more tokens than it did then: in a surge it is busier. Lesser harm shows
    in pairs.
    """
    stock = [values for each in before if (values := served.values(each.begin, each.end))]
    if not stock or now <= span.begin:
        return None
    slowest, busiest = (
        max(values.get(key, np.inf) for values in stock) for key in ("e2e_mean_s", "throughput_tok_s")
    )
    here = served.values(span.begin, now)
    surge = here.get("throughput_tok_s", 0.0) > busiest
    if (
        here.get("requests", 0) >= halt.requests
        and here["e2e_mean_s"] > halt.e2e_ratio * slowest
        and not surge
    ):
        return (
            f"mean E2E is {here['e2e_mean_s']:.3g} s in this block, {here['e2e_mean_s'] / slowest:.1f} times that of the "
            f"slowest of {len(stock)} stock blocks (halt.e2e_ratio={halt.e2e_ratio:g})"
        )
    return _silence(served, span, now, before[-BEFORE:], stock[-BEFORE:], halt)


def _silence(
    served: Served,
    span: Span,
    now: float,
    before: Sequence[Span],
    stock: Sequence[Mapping[str, float]],
    halt: HaltConfig,
) -> str | None:
    """Who never ends has no record. So where stock would have ended many by now, none is harm."""
    since = now - halt.silence_s
    if since < span.begin:
        return None
    rate = sum(values["requests"] for values in stock) / sum(each.end - each.begin for each in before)
    if rate * halt.silence_s < halt.requests or _ended(served, since, now):
        return None
    return (
        f"nobody's answer ended in {halt.silence_s:g} s; under stock {rate * halt.silence_s:.0f} would have"
    )


def _ended(served: Served, begin: float, end: float) -> bool:
    requests = served.requests()
    if requests is None:
        return bool(served.values(begin, end))
    return bool(((requests.finish >= begin) & (requests.finish < end)).any())


def checks(
    rules: Sequence[GuardrailRule], served: Served, pairs: Sequence[tuple[Span, Span]], alpha: float = ALPHA
) -> list[Check]:
    """The rules on pairs of (stock, strategy) spans; intervals leave out `alpha`."""
    return [_check(rule, _scores(rule.metric, served, pairs), alpha) for rule in rules]


def broken_early(
    rules: Sequence[GuardrailRule], served: Served, pairs: Sequence[tuple[Span, Span]], planned: int
) -> str | None:
    """The first rule that is broken beyond doubt after these of the `planned` pairs, in words.

    It is asked after each pair, so that each time takes its share of 5 % (Bonferroni).
    """
    for check in checks(rules, served, pairs, ALPHA / (planned * max(1, len(rules)))):
        if check.status == "broken":
            return (
                f"guardrail {check.metric} {check.limit}: it is {check.ratio:.3g} times stock's "
                f"({check.low:.3g} to {check.high:.3g}) over {len(pairs)} pairs"
            )
    return None


def _check(rule: GuardrailRule, scores: np.ndarray, alpha: float) -> Check:
    limit = f"{'>=' if rule.max_ratio is None else '<='} {rule.limit:g}x"
    if len(scores) < MIN_PAIRS:
        return Check(rule.metric, limit, "not measured", np.nan, np.nan, np.nan)
    mean, n = float(scores.mean()), len(scores)
    half = float(stdtrit(n - 1, 1 - alpha / 2) * scores.std(ddof=1) / np.sqrt(n))
    ratio, low, high = map(float, np.exp([mean, mean - half, mean + half]))
    least, most = (rule.min_ratio, np.inf) if rule.max_ratio is None else (0.0, rule.max_ratio)
    status: Status = "unsure"
    if least <= low and high <= most:
        status = "held"
    elif high < least or low > most:
        status = "broken"
    return Check(rule.metric, limit, status, ratio, low, high)


def _scores(metric: str, served: Served, pairs: Sequence[tuple[Span, Span]]) -> np.ndarray:
    """log(strategy / stock), one a pair, or one a group of pairs where a tail needs many requests."""
    if metric == "e2e_p99_s":
        return _of_groups(served.requests(), pairs, TAIL, lambda requests, _: percentile(requests.e2e, 0.99))
    if metric == "e2e_largest_s":
        return _of_groups(served.requests(), pairs, LARGE, _largest)
    values = [[served.values(s.begin, s.end).get(metric, np.nan) for s in pair] for pair in pairs]
    return _logs(values)


def _of_groups(requests: Requests | None, pairs, fewest: int, measure) -> np.ndarray:
    """`measure(requests, cut)` of consecutive pairs that have `fewest` requests of each kind together."""
    if requests is None or not len(requests.arrival):
        return np.array([])
    cut = float(np.quantile(requests.prompt + requests.output, 1 - LARGEST_SHARE))
    order = np.argsort(requests.arrival)
    columns = (requests.arrival, requests.finish, requests.prompt, requests.output, requests.whole)
    ordered = Requests(*(column[order] for column in columns))
    values, group = [], [[], []]
    for pair in pairs:
        for kind, span in zip(group, pair, strict=True):
            first, after = np.searchsorted(ordered.arrival, [span.begin, span.end])
            kind.append(np.arange(first, after))
        places = [np.concatenate(kind) for kind in group]
        if min(map(len, places)) >= fewest:
            values.append([measure(_at(ordered, each), cut) for each in places])
            group = [[], []]
    return _logs(values)


def _at(requests: Requests, places: np.ndarray) -> Requests:
    columns = (requests.arrival, requests.finish, requests.prompt, requests.output, requests.whole)
    return Requests(*(column[places] for column in columns))


def _largest(requests: Requests, cut: float) -> float:
    """Mean E2E of those with at least `cut` tokens; strategies do not choose who they are."""
    large = requests.prompt + requests.output >= cut
    return float(requests.e2e[large].mean()) if large.any() else np.nan


def _logs(values: Sequence[Sequence[float]]) -> np.ndarray:
    table = np.array(values, float).reshape(-1, 2)
    table = table[(table > 0).all(axis=1) & np.isfinite(table).all(axis=1)]
    return np.log(table[:, 1] / table[:, 0])
