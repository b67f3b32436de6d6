"""First of all, after a run of stock: does anybody wait for memory, or is there more load than the engine bears?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import log
from statistics import fmean

from ray_jobs.advise.lab import Lab, raise_for, sized
from ray_jobs.advise.rates import FARTHEST, faster
from ray_jobs.advise.space import Candidate
from tracking.evidence.scale import FITS, SESSIONS_FIT, mean_of
from tracking.store.reader import LOST_BETWEEN_TURNS, StoredRun

STEP = 1.25  # from one load to the next, where the load at which pressure begins is looked for
BRIEF = 0.01  # of the time: nothing is gained where somebody waits for less
AT_ONCE = 2  # such loads, so that what is found does not depend on how many cores there are
GROWN = 0.1  # of all requests: a queue of so many when the last one arrives goes on growing


@dataclass(frozen=True)
class Pressure:
    """What stock showed, as means over a few traces. Rates in requests a second, times in seconds."""

    kv_max: float  # peak share of the KV cache that running requests held
    preemptions: float
    requests: float
    blocked_share: float  # of the time, in which the first in line did not fit though a seat was free
    waited_share: float  # of the time, in which anybody waited
    backlog: float  # of all requests, that waited when the last one arrived
    arrive_req_s: float
    served_req_s: float
    within_slo: float
    ttft_s: float
    fits: float | None = None  # mean requests in the KV cache, by their prompt and output tokens
    sessions_fit: float | None = None
    reprefill_share: float = 0.0  # of the prompt tokens, computed again between turns of sessions
    begins_req_s: float | None = None  # where pressure begins, if there is none and it was looked for

    @property
    def memory(self) -> bool:
        """Whether anybody lost memory, while it ran or between turns, or waited for it longer than BRIEF."""
        lost = self.reprefill_share > LOST_BETWEEN_TURNS
        return self.preemptions >= 1 or lost or self.blocked_share > BRIEF

    @property
    def any(self) -> bool:
        """Whether anybody waited at all: else no policy has anything to decide."""
        return self.memory or self.waited_share > BRIEF

    @property
    def overloaded(self) -> bool:
        return self.backlog > GROWN

    @property
    def text(self) -> str:
        """One sentence."""
        if self.overloaded:
            return (
                f"overloaded: mean TTFT {self.ttft_s:.3g} s, {self.within_slo:.0%} of the requests within the SLO at "
                f"{self.arrive_req_s:.3g} req/s; the capacity is about {self.served_req_s:.2g}"
            )
        peak = f"peak KV use {self.kv_max:.0%}"
        if self.memory:
            return (
                f"{peak}, {self.preemptions:.0f} preemptions in {self.requests:.0f} requests, "
                f"the first in line did not fit {self.blocked_share:.0%} of the time{self._between_turns}"
            )
        if self.any:
            return f"{peak}, nobody waited for memory, but for a seat {self.waited_share:.0%} of the time (engine.max_num_seqs)"
        begins = f"; pressure begins at about {self.begins_req_s:.3g} req/s" if self.begins_req_s else ""
        waited = (
            f"somebody waited {self.waited_share:.1%} of the time" if self.waited_share else "nobody waited"
        )
        return f"{peak}, {waited}: no policy can help at {self.arrive_req_s:.3g} req/s{begins}"

    @property
    def _between_turns(self) -> str:
        if not self.reprefill_share:
            return ""
        return f", {self.reprefill_share:.0%} of the prompt tokens were computed again between turns"


def pressure_of(lab: Lab, stock: Candidate, seeds: Sequence[int], deadline: float) -> Pressure | None:
    """From stock on the search's first traces; None if it did not run within the deadline or has no such records.

    Raises ValueError if no run of it came to its end.
    """
    config = lab.config
    workload = sized(config.workload, config.search.requests)
    runs = lab.run("stock", [(stock, workload, seed) for seed in seeds], deadline)
    if runs and all(run.failed for run in runs.values()):
        raise_for(next(iter(runs.values())), config)
    shown = [run for run in runs.values() if "waited_share" in run.metrics]
    if not shown:
        return None
    found = _mean(shown)
    if found.any or workload.arrivals.kind == "closed_loop":
        return found
    begins = _begins(lab, stock, seeds[0], deadline)
    return replace(found, begins_req_s=begins * found.arrive_req_s if begins else None)


def _mean(runs: Sequence[StoredRun]) -> Pressure:
    def mean(name: str) -> float:
        return fmean(run.metrics.get(name, 0.0) for run in runs)

    return Pressure(
        max(run.metrics.get("kv_util_max", 0.0) for run in runs), mean("preemptions"), mean("requests"),
        mean("blocked_share"), mean("waited_share"), mean("backlog"), mean("arrive_req_s"), mean("served_req_s"),
        mean("slo_attainment"), mean("ttft_mean_s"), mean_of(runs, FITS),
        mean_of(runs, SESSIONS_FIT), mean("reprefill_tax_share"),
    )  # fmt: skip


def _begins(lab: Lab, stock: Candidate, first_seed: int, deadline: float) -> float | None:
    """The first multiple of the load, in steps, at which somebody waits for memory; None if none does."""
    workload = sized(lab.config.workload, lab.config.search.requests)
    steps = [STEP**number for number in range(1, int(log(FARTHEST, STEP)) + 1)]
    for begin in range(0, len(steps), AT_ONCE):
        at_once = {
            first_seed + begin + place: times for place, times in enumerate(steps[begin : begin + AT_ONCE])
        }
        wanted = [(stock, faster(workload, times), seed) for seed, times in at_once.items()]
        runs = lab.run("where pressure begins", wanted, deadline)
        for seed, times in at_once.items():
            if (stock, seed) not in runs:
                return None
            if _mean([runs[stock, seed]]).memory:
                return times
    return None
