"""Finds what to run: search, confirmation on fresh traces, highest rates; within a budget."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from ray_jobs.advise.config import RecommendConfig
from ray_jobs.advise.confirm import Confirmation, by_trace, confirm, mean_values
from ray_jobs.advise.lab import Lab, Progress, simulated, sized
from ray_jobs.advise.rates import HighestRates, highest_rates
from ray_jobs.advise.search import Search, search
from ray_jobs.advise.space import Candidate, Space
from ray_jobs.advise.traces import CONFIRM, RATES, SEARCH, SEEDS_OF_A_RUN, trace_of
from tracking.evidence.outcomes import Block

STOCK = "stock"
FINALISTS = 3
SEARCH_UNTIL, CONFIRM_UNTIL = 0.5, 0.85  # of the budget


@dataclass
class Advice:
    """What was found. `chosen` is None where nothing was shown to be better than stock.

    `confirmations` are of the finalists in their order, as far as their turn came.
    """

    space: Space
    stock: Candidate
    search: Search
    stock_values: dict[str, float]
    confirmations: list[Confirmation] = field(default_factory=list)
    finalists: list[Candidate] = field(default_factory=list)
    chosen: Candidate | None = None
    rates: HighestRates | None = None
    seconds: float = 0.0
    runs: int = 0
    run_cpu_s: float = 0.0
    search_cpu_s: float = 0.0

    @property
    def confirmation(self) -> Confirmation | None:
        """Of what is chosen, else of the best that the search found."""
        place = self.finalists.index(self.chosen) if self.chosen else 0
        return self.confirmations[place] if place < len(self.confirmations) else None


def advise(config: RecommendConfig, progress: Progress = lambda *_: None) -> Advice:
    """Raises ValueError if the workload or the engine cannot be simulated."""
    begun = time.monotonic()
    check(config)
    space = Space(config.space, config.engine)
    with Lab(config, space, progress) as lab:
        return advise_in(lab, begun)


def advise_in(lab: Lab, begun: float) -> Advice:
    """The same in a lab that is open."""
    config, budget = lab.config, lab.config.budget_s
    lab.space.put_first(STOCK, config.strategy)
    stock, base = Candidate(STOCK), config.seed * SEEDS_OF_A_RUN
    found = search(lab, stock, base + SEARCH, begun + SEARCH_UNTIL * budget)
    search_cpu = lab.cpu_s
    finalists = finalists_of(found, stock, config.space.always)
    blocks, confirmations = confirmed(lab, stock, finalists, base + CONFIRM, begun + CONFIRM_UNTIL * budget)
    chosen = next((c for c, done in zip(finalists, confirmations, strict=False) if done.recommended), None)
    seeds = [base + RATES + i for i in range(config.search.rate_seeds)]
    rates = highest_rates(lab, [stock, chosen] if chosen else [stock], seeds, begun + budget)
    return Advice(
        lab.space, stock, found, mean_values(blocks, STOCK), confirmations, finalists, chosen, rates,
        time.monotonic() - begun, len(lab.done), lab.cpu_s, search_cpu,
    )  # fmt: skip


def finalists_of(found: Search, stock: Candidate, always: str | None) -> list[Candidate]:
    """Who has a turn on fresh traces, in this order."""
    finalists = [c for c in found.best(FINALISTS + 1, below=0.0) if c != stock][:FINALISTS]
    named = Candidate(always) if always else None
    if named is None or named in finalists:
        return finalists
    return [*finalists[: FINALISTS - 1], named]


def confirmed(
    lab: Lab, stock: Candidate, finalists: list[Candidate], first_seed: int, deadline: float
) -> tuple[Mapping[str, Block], list[Confirmation]]:
    """One finalist after another on the same fresh traces, until one is shown to be better and keeps the
    guardrails. P-values are corrected over all finalists, whether their turn comes or not."""
    for turn in range(min(1, len(finalists)), len(finalists) + 1):
        tried = finalists[:turn]
        blocks = fresh_blocks(lab, [stock, *tried], first_seed, deadline)
        confirmations = confirm(blocks, STOCK, [c.label for c in tried], lab.config, len(finalists))
        if time.monotonic() >= deadline or any(done.recommended for done in confirmations):
            break
    return blocks, confirmations


def fresh_blocks(
    lab: Lab, candidates: list[Candidate], first_seed: int, deadline: float
) -> Mapping[str, Block]:
    """The candidates on traces that the search did not see; trace after trace, as far as time suffices."""
    settings = lab.config.search
    workload = sized(lab.config.workload, settings.confirm_requests)
    seeds = range(first_seed, first_seed + settings.confirm_seeds)
    wanted = [(candidate, workload, seed) for seed in seeds for candidate in candidates]
    return by_trace(list(lab.run(f"confirming on {len(seeds)} fresh traces", wanted, deadline).values()))


def check(config: RecommendConfig) -> None:
    """Says what is wrong with the workload before any process starts."""
    engine = simulated(config.engine, config.budget_s)
    for requests in {config.search.requests, config.search.confirm_requests, config.search.rate_requests}:
        trace_of(sized(config.workload, requests), config.seed, engine.vocab_size, engine.max_model_len)
