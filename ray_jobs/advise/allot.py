"""How many requests and traces the time suffices for, so that an answer is possible: planned from what runs took so far.

A search that leaves no time for a verdict is worth nothing: runs become shorter first, then traces fewer, but never so few
that nothing could be shown.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

from ray_jobs.advise.config import SearchConfig
from tracking.evidence.statistics import MIN_PAIRS
from tracking.store.reader import StoredRun

SHORTEST = 150  # requests of a run
ROOM = 0.8  # of its time that a part is planned to take: runs differ
STEPS = 7  # of a bisection, as a rule
ROUGH = 0.1  # precision of a rate for which there is hardly time
FEWEST = MIN_PAIRS + 1  # traces: with one less than that, only what is always the same can be shown


@dataclass(frozen=True)
class Pace:
    """What a run takes in one of `processes`, for each of its requests; 0 if nothing has run yet."""

    seconds_a_request: float
    processes: int

    def longest(self, runs: int, seconds: float) -> int:
        """How many requests so many runs may have, to be done in `seconds`."""
        if not self.seconds_a_request:
            return 10**9
        return int(ROOM * seconds / (math.ceil(runs / self.processes) * self.seconds_a_request))


def pace_of(runs: Iterable[StoredRun], processes: int) -> Pace:
    """The mean of the runs that were made."""
    done = [run.metrics for run in runs if run.metrics.get("requests") and "run_wall_s" in run.metrics]
    requests = sum(metrics["requests"] for metrics in done)
    return Pace(sum(metrics["run_wall_s"] for metrics in done) / requests if requests else 0.0, processes)


def search_within(search: SearchConfig, strategies: int, pace: Pace, seconds: float) -> SearchConfig:
    """With runs of which the first round, of every strategy, takes `seconds` at most."""
    longest = pace.longest((strategies + 1) * search.rungs[0].seeds, seconds)
    return replace(search, requests=_at_most(search.requests, longest))


def confirm_within(search: SearchConfig, pace: Pace, seconds: float, all_seconds: float) -> SearchConfig:
    """With as many traces, and runs as long, as one finalist beside stock can have in `seconds`; if too few, in
    `all_seconds`: a verdict is worth more than what comes after it."""
    plans = ((search.confirm_seeds, seconds), (FEWEST, seconds), (FEWEST, all_seconds))
    for wanted, time in plans:
        seeds = min(search.confirm_seeds, wanted)
        longest = pace.longest(2 * seeds, time)
        if longest >= SHORTEST:
            break
    return replace(search, confirm_seeds=seeds, confirm_requests=_at_most(search.confirm_requests, longest))


def rates_within(search: SearchConfig, candidates: int, pace: Pace, seconds: float) -> SearchConfig:
    """With runs as long, and a rate as rough, as a bisection on one trace can have in `seconds`."""
    longest = pace.longest(STEPS * candidates, seconds)
    if longest >= SHORTEST:
        return replace(search, rate_requests=_at_most(search.rate_requests, longest))
    return replace(
        search, rate_requests=_at_most(search.rate_requests, 0), precision=max(search.precision, ROUGH)
    )


def _at_most(requests: int | None, longest: int) -> int | None:
    return None if requests is None else min(requests, max(SHORTEST, longest))
