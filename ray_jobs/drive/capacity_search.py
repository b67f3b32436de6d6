"""Whether a queue that has formed goes away at a rate, and the search for the highest such rate.

The saturation rule (Baccelli & Foss, 1995): a queue is stable below the rate at which its server works
off an endless backlog, however arrivals are spread. So a run begins with more requests than the engine
can hold, sent at once; the others follow evenly spaced, and the queue grows or it does not.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import sqrt

import numpy as np

from ray_jobs.workload.mixing import mixed_order
from ray_jobs.workload.trace import Trace
from tracking.result import RunResult

GROWTH = 0.01  # of the requests that arrive in the meantime: a queue that grows by less is stable
SAMPLES = 400  # of the queue's length, evenly spaced over the half that counts
FIRST_STEP = 0.04  # from the guess to the other end of the bracket; doubled until it holds


@dataclass(frozen=True)
class Probe:
    """What one run at `rate` (req/s) showed of the waiting requests in the second half of its arrivals."""

    rate: float
    waiting_before: float  # mean over the third quarter
    waiting_after: float  # mean over the last quarter
    growth: float  # requests added to the queue, as a share of those that arrived

    @property
    def stable(self) -> bool:
        return self.growth <= GROWTH

    @property
    def wait_s(self) -> float:
        """Mean wait of a request in the last quarter (Little's law)."""
        return self.waiting_after / self.rate


def evenly_mixed(trace: Trace) -> Trace:
    """Independent requests in an order in which every stretch has short and long ones in equal shares.

    Multiples of the golden ratio, modulo 1, are evenly spread; so are then the ranks of the lengths. Else
    the second half of the arrivals could be more work than the first, and a queue grow that is stable.
    """
    lengths = [len(request.prompt_token_ids) + request.output_tokens for request in trace.requests]
    ranked = np.argsort(lengths, kind="stable")
    order = ranked[mixed_order(len(ranked))]
    return replace(trace, requests=tuple(replace(trace.requests[i], arrival_s=0.0) for i in order))


def spread(trace: Trace, rate: float | None, at_once: int) -> Trace:
    """The trace's requests anew: `at_once` of them at time 0, the others evenly at `rate`; all at once without it."""
    requests = tuple(
        replace(request, arrival_s=0.0 if rate is None else max(0, number - at_once + 1) / rate, warmup=False)
        for number, request in enumerate(trace.requests)
    )
    return replace(trace, requests=requests)


def saturated(result: RunResult) -> tuple[float, int]:
    """Requests a second while requests waited, and the most that ran at once, in a run that got all at once."""
    steps = result.steps
    t = steps["t"].to_numpy(float) - result.started_t
    waited = t[steps["waiting"].to_numpy() > 0]
    until = waited[-1] if len(waited) else np.inf
    finished = np.sort(result.requests["finish_t"].dropna().to_numpy(float))
    begin, end = len(finished) // 5, int(np.searchsorted(finished, until, side="right"))
    if end - begin < 2:
        begin, end = 0, len(finished)  # too few to leave out how it began and ended
    if end - begin < 2 or finished[end - 1] <= finished[begin]:
        raise ValueError(
            f"capacity: only {len(finished)} requests were answered under saturation "
            "(run.timeout_s and run.request_timeout_s may be too short)"
        )
    return (end - begin - 1) / (finished[end - 1] - finished[begin]), int(steps["running"].max())


def measure(result: RunResult, rate: float, end_s: float) -> Probe:
    """The queue over the second half of the arrivals, which end at `end_s` seconds of the run."""
    t = result.steps["t"].to_numpy(float) - result.started_t
    waiting = result.steps["waiting"].to_numpy(float)
    moments = np.linspace(end_s / 2, end_s, SAMPLES)
    seen = waiting[np.maximum(0, np.searchsorted(t, moments, side="right") - 1)]
    before, after = seen[: SAMPLES // 2].mean(), seen[SAMPLES // 2 :].mean()
    return Probe(rate, float(before), float(after), float((after - before) / (rate * end_s / 4)))


@dataclass
class Bisection:
    """Looks for the highest stable rate from a guess on: `next_rate`, then `add` what a run there showed."""

    guess: float
    precision: float
    stable: float | None = None
    unstable: float | None = None
    _step: float = FIRST_STEP
    probes: list[Probe] = field(default_factory=list)

    def next_rate(self) -> float | None:
        """None when the rate is known to the precision wanted."""
        if self.stable is None and self.unstable is None:
            return self.guess
        if self.unstable is None:
            return self.stable * (1 + self._step)
        if self.stable is None:
            return self.unstable / (1 + self._step)
        if self.unstable <= self.stable * (1 + self.precision):
            return None
        return sqrt(self.stable * self.unstable)

    def add(self, probe: Probe) -> None:
        self.probes.append(probe)
        bracketed = self.stable is not None and self.unstable is not None
        if len(self.probes) > 1 and not bracketed:
            self._step *= 2
        if probe.stable:
            self.stable = probe.rate
        else:
            self.unstable = probe.rate
