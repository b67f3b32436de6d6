"""Successive halving: many candidates on few traces first, the best of them on more."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, zip_longest

from ray_jobs.advise.config import RecommendConfig, RungConfig, metric_of
from ray_jobs.advise.judge import pairs_of, scores, standard_error
from ray_jobs.advise.lab import Lab, raise_for, sized
from ray_jobs.advise.space import Candidate
from tracking.store.reader import StoredRun

ALLOWED = (1.0, 0.5)  # of what a guardrail does: half of the places are for those that keep the latter


@dataclass
class Search:
    """What a search found: the candidates of its last round, each with its score, and with the one it has
    where a guardrail counts as broken at half of what it allows.

    `tried` are all that were run; `complete` says that time sufficed for every round.
    """

    scored: list[tuple[Candidate, list[float]]] = field(default_factory=list)
    tried: set[Candidate] = field(default_factory=set)
    runs: int = 0
    complete: bool = True

    def best(self, count: int, below: float = math.inf) -> list[Candidate]:
        """The first of both rankings in turns, of those with a score below `below`; the best of each strategy
        before others. What is best on few traces may break a guardrail on more, and its variants with it."""
        rankings = [self._ranking(place, below) for place in range(len(ALLOWED))]
        turns = chain.from_iterable(zip_longest(*rankings))
        return [candidate for candidate in dict.fromkeys(turns) if candidate is not None][:count]

    def _ranking(self, place: int, below: float) -> list[Candidate]:
        better = [(candidate, scores[place]) for candidate, scores in self.scored if scores[place] < below]
        better.sort(key=lambda item: item[1])  # stable: equal ones stay in the order of `space`
        return one_a_strategy([candidate for candidate, _ in better])


def search(lab: Lab, stock: Candidate, first_seed: int, deadline: float) -> Search:
    """Seeds are counted from `first_seed`. A round that time does not suffice for ranks by the traces that
    all of its candidates have; one with none leaves the ranking of the round before."""
    config = lab.config
    workload = sized(config.workload, config.search.requests)
    found = Search()
    inside = lab.space.plain()
    for number, rung in enumerate(config.search.rungs, 1):
        entered = grown(lab, inside, rung)
        seeds = range(first_seed, first_seed + rung.seeds)
        wanted = [(c, workload, seed) for seed in seeds for c in dict.fromkeys([stock, *entered])]
        what = f"round {number} of {len(config.search.rungs)}: {len(entered)} candidates"
        runs = lab.run(what, wanted, deadline)
        found.runs = len(lab.done)
        found.tried |= {candidate for candidate, _ in runs}
        if all(runs[stock, seed].failed for seed in seeds if (stock, seed) in runs):
            raise_for(runs.get((stock, first_seed)), config)
        found.scored = scored(runs, stock, entered, list(seeds), lab) or found.scored
        inside = found.best(rung.keep)
        if len(runs) < len(wanted) or time.monotonic() >= deadline:
            found.complete = number == len(config.search.rungs) and len(runs) == len(wanted)
            break
    return found


def one_a_strategy(ranked: Sequence[Candidate]) -> list[Candidate]:
    """The best of each strategy, then the others."""
    best = {candidate.strategy: candidate for candidate in reversed(ranked)}.values()
    return sorted(ranked, key=lambda candidate: candidate not in best)


def grown(lab: Lab, inside: Sequence[Candidate], rung: RungConfig) -> list[Candidate]:
    """Those that come into a round: the best of the last one, with their neighbours if it grows, and the
    strategy of each in the engine as it is, beside which its settings are judged."""
    neighbours = [n for c in inside for n in lab.space.neighbours(c)] if rung.grow else []
    return list(dict.fromkeys([*inside, *(c.plain for c in inside), *neighbours]))


def scored(
    runs: Mapping[tuple, StoredRun],
    stock: Candidate,
    candidates: Sequence[Candidate],
    seeds: Sequence[int],
    lab: Lab,
) -> list[tuple[Candidate, list[float]]]:
    """Candidates with their scores, one for each of ALLOWED, on the traces that all of them have.

    If not all have the first trace, those that have it are scored on that one. What a candidate changes of the
    engine counts `search.per_setting` each, or the standard error of its gain over its strategy in the engine
    as it is, if that is more: of many that differ by noise, one with changes looks best.
    """
    shared = [seed for seed in seeds if all((c, seed) in runs for c in [stock, *candidates])] or seeds[:1]
    config, found = lab.config, []
    for candidate in candidates:
        pairs = pairs_of(runs, stock, candidate, shared)
        if pairs:
            measured = scores(pairs, metric_of(config), config.guardrails.rules, ALLOWED)
            found.append((candidate, [score + doubt(runs, candidate, shared, config) for score in measured]))
    return found


def doubt(
    runs: Mapping[tuple, StoredRun], candidate: Candidate, seeds: Sequence[int], config: RecommendConfig
) -> float:
    """What its settings must gain over their strategy without them, to be worth a change."""
    if not candidate.settings:
        return 0.0
    least = config.search.per_setting * len(candidate.settings)
    pairs = pairs_of(runs, candidate.plain, candidate, seeds)
    return max(least, standard_error(pairs, metric_of(config))) if pairs else least
