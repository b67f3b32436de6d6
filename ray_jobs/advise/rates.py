"""The highest rate at which enough requests are within the SLO."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf
from statistics import fmean

from ray_jobs.advise.lab import Lab, sized
from ray_jobs.advise.space import Candidate
from ray_jobs.drive.capacity_search import Bisection
from ray_jobs.workload.config import KINDS_WITH_RATE, WorkloadConfig
from tracking.evidence.statistics import PairedTest, paired_test

FARTHEST = 8.0  # times the workload's rate, up and down


@dataclass(frozen=True)
class Tried:
    """Whether the SLO was met at `rate`, which is a multiple of the workload's."""

    rate: float
    stable: bool


@dataclass(frozen=True)
class HighestRates:
    """By candidate and trace: multiples of the workload's rate, 0 where the SLO is met at none, and what a
    million output tokens cost there in GPU-hours."""

    rates: dict[Candidate, list[float]]
    costs: dict[Candidate, list[float]]

    def mean(self, candidate: Candidate) -> float:
        return fmean(self.rates[candidate])

    def cost(self, candidate: Candidate) -> float | None:
        return fmean(self.costs[candidate]) if self.costs[candidate] else None

    def paired(self, stock: Candidate, candidate: Candidate) -> PairedTest | None:
        """None where a rate is 0."""
        values = [self.rates[which] for which in (stock, candidate)]
        return paired_test(*values) if all(value > 0 for some in values for value in some) else None


def highest_rates(
    lab: Lab, candidates: Sequence[Candidate], seeds: Sequence[int], deadline: float
) -> HighestRates | None:
    """A bisection for every candidate on one trace after another (several at once if there are cores for them), as
    far as time suffices; None if it suffices for no trace, or if arrivals have no rate."""
    if lab.config.workload.arrivals.kind == "closed_loop":
        return None
    at_once = max(1, lab.processes // len(candidates))
    ends: dict[tuple[Candidate, int], float] = {}
    costs: dict[tuple[Candidate, int], float] = {}
    done: list[int] = []
    for begin in range(0, len(seeds), at_once):
        part = seeds[begin : begin + at_once]
        found = _bisected(lab, [(c, seed) for seed in part for c in candidates], deadline)
        if found is None:
            break
        ends, costs, done = ends | found[0], costs | found[1], [*done, *part]
    if not done:
        return None
    return HighestRates(
        {c: [ends[c, seed] for seed in done] for c in candidates},
        {c: [costs[c, seed] for seed in done if ends[c, seed]] for c in candidates},
    )


def _bisected(lab: Lab, places: Sequence[tuple[Candidate, int]], deadline: float) -> tuple[dict, dict] | None:
    """The highest rate of each candidate and seed, and what it costs there; None if time did not suffice."""
    config = lab.config
    workload = sized(config.workload, config.search.rate_requests)
    searches = {place: Bisection(1.0, config.search.precision) for place in places}
    ends: dict[tuple[Candidate, int], float] = {}
    costs: dict[tuple[tuple[Candidate, int], float], float] = {}
    while len(ends) < len(searches):
        wanted = {}
        for place, bisection in searches.items():
            factor = bisection.next_rate()
            if factor is None or not 1 / FARTHEST <= factor <= FARTHEST:
                ends[place] = bisection.stable or 0.0
            if place not in ends:
                wanted[place] = factor
        if not wanted:
            break
        runs = lab.run(
            "highest rate within the SLO",
            [(c, faster(workload, factor), seed) for (c, seed), factor in wanted.items()],
            deadline,
        )
        if len(runs) < len(wanted) or time.monotonic() >= deadline:
            return None
        for place, factor in wanted.items():
            met = runs[place].metrics.get("slo_attainment", 0.0) >= config.slo_share
            searches[place].add(Tried(factor, met))
            costs[place, factor] = runs[place].metrics.get("gpu_h_per_mtok", inf)
    return ends, {place: costs[place, end] for place, end in ends.items() if end}


def faster(workload: WorkloadConfig, factor: float) -> WorkloadConfig:
    """The same requests, arriving `factor` times as fast."""
    if workload.load_share is not None:
        return replace(workload, capacity=workload.capacity * factor)
    if workload.arrivals.kind in KINDS_WITH_RATE and workload.source.kind != "frozen":
        return replace(workload, rate=workload.rate * factor)
    return replace(
        workload, arrivals=replace(workload.arrivals, time_scale=workload.arrivals.time_scale / factor)
    )
