"""Finds what to run: is there pressure, search, confirmation on fresh traces, highest rates; within a budget."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from ray_jobs.advise.allot import confirm_within, pace_of, rates_within, search_within
from ray_jobs.advise.config import RecommendConfig
from ray_jobs.advise.confirm import Confirmation, by_trace, confirm, effects_of, mean_values
from ray_jobs.advise.from_recording import FittedEngine
from ray_jobs.advise.lab import Lab, Progress, simulated, sized
from ray_jobs.advise.memory import GIB, MemoryWorth, memory_worth, without_host_memory
from ray_jobs.advise.pressure import Pressure, pressure_of
from ray_jobs.advise.rates import HighestRates, highest_rates
from ray_jobs.advise.reproduce import Reproduction, reproduce
from ray_jobs.advise.search import Search, search
from ray_jobs.advise.space import Candidate, Space
from ray_jobs.advise.traces import CONFIRM, FIRST_TRACES, RATES, SEARCH, SEEDS_OF_A_RUN, trace_of
from ray_jobs.workload.sources import has_sessions
from tracking.evidence.outcomes import Block

STOCK = "stock"
FINALISTS = 3
SEARCH_SHARE, CONFIRM_SHARE = 0.4, 0.4  # of the time that is left then; the rest is for the highest rates


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
    pressure: Pressure | None = None
    begin_s: float = 0.0  # until stock had run
    search_s: float = 0.0
    confirm_s: float = 0.0
    seconds: float = 0.0  # all of it, the command's start included
    runs: int = 0
    run_cpu_s: float = 0.0
    search_cpu_s: float = 0.0
    recording: FittedEngine | None = None  # that the engine was taken from
    reproduction: Reproduction | None = None  # of that, by the simulator
    memory: MemoryWorth | None = None  # of the host memory that is recommended

    @property
    def confirmation(self) -> Confirmation | None:
        """Of what is chosen, else of the best that the search found."""
        place = self.finalists.index(self.chosen) if self.chosen else 0
        return self.confirmations[place] if place < len(self.confirmations) else None


def advise(
    config: RecommendConfig,
    progress: Progress = lambda *_: None,
    begun: float | None = None,
    recording: FittedEngine | None = None,
) -> Advice:
    """`begun` is when the budget began, a time of `time.monotonic`; None = now. `recording` is what the engine was taken
    from: whether a simulation does what it did is seen first.

    Raises ValueError if the workload or the engine cannot be simulated.
    """
    begun = time.monotonic() if begun is None else begun
    check(config)
    space = Space(config.space, config.engine, has_sessions(config.workload.source.kind))
    with Lab(config, space, progress) as lab:
        lab.space.put_first(STOCK, config.strategy)
        done = reproduce(lab, Candidate(STOCK), recording.latencies) if recording else None
        advice = advise_in(lab, begun)
    return replace(advice, recording=recording, reproduction=done)


def advise_in(lab: Lab, begun: float) -> Advice:
    """The same in a lab that is open."""
    config, deadline = lab.config, begun + lab.config.budget_s
    lab.space.put_first(STOCK, config.strategy)
    stock, base = Candidate(STOCK), config.seed * SEEDS_OF_A_RUN
    seeds = range(base + SEARCH, base + SEARCH + FIRST_TRACES)
    pressure = pressure_of(lab, stock, seeds, deadline)
    stocked = time.monotonic()
    if config.until == "pressure" or (pressure is not None and not pressure.any):
        return Advice(
            lab.space, stock, Search(), {}, pressure=pressure, begin_s=stocked - begun,
            seconds=stocked - begun, runs=len(lab.done), run_cpu_s=lab.cpu_s,
        )  # fmt: skip
    left = deadline - stocked
    plan = config.search
    plan = search_within(
        plan, len(lab.space.strategies), pace_of(lab.done.values(), lab.processes), SEARCH_SHARE * left
    )
    lab.config = replace(config, search=plan)
    found = search(lab, stock, base + SEARCH, stocked + SEARCH_SHARE * left)
    search_cpu, searched = lab.cpu_s, time.monotonic()
    # Of sessions the best that was seen is tried first: one that is better without host memory would end it there.
    always = None if has_sessions(config.workload.source.kind) else config.space.always
    finalists = finalists_of(found, stock, always)
    plan = confirm_within(
        plan, pace_of(lab.done.values(), lab.processes), CONFIRM_SHARE * left, deadline - searched
    )
    lab.config = replace(config, search=plan)
    blocks, confirmations = confirmed(
        lab, stock, finalists, base + CONFIRM, searched + CONFIRM_SHARE * left, deadline
    )
    confirmed_at = time.monotonic()
    chosen = choice(finalists, confirmations)
    memory = None
    without = without_host_memory(chosen) if chosen else None
    if chosen and without:
        blocks_of_both = fresh_blocks(lab, [chosen, without], base + CONFIRM, deadline)
        gib = dict(chosen.settings)[GIB] - config.engine.kv_offload_gib
        memory = memory_worth(blocks_of_both, without.label, chosen.label, gib, lab.config)
    candidates = [stock, chosen] if chosen else [stock]
    pace = pace_of(lab.done.values(), lab.processes)
    plan = rates_within(plan, len(candidates), pace, deadline - confirmed_at)
    lab.config = replace(config, search=plan)
    rate_seeds = [base + RATES + i for i in range(config.search.rate_seeds)]
    rates = highest_rates(lab, candidates, rate_seeds, deadline)
    return Advice(
        lab.space, stock, found, mean_values(blocks, STOCK, effects_of(config)), confirmations, finalists, chosen, rates, pressure,
        stocked - begun, searched - stocked, confirmed_at - searched, time.monotonic() - begun, len(lab.done),
        lab.cpu_s, search_cpu, memory=memory,
    )  # fmt: skip


def choice(finalists: list[Candidate], confirmations: list[Confirmation]) -> Candidate | None:
    """The first whose guardrails were all shown to hold, else the first that is better and seems to keep them."""
    better = [(c, done) for c, done in zip(finalists, confirmations, strict=False) if done.recommended]
    held = [candidate for candidate, done in better if not done.unsure]
    return held[0] if held else better[0][0] if better else None


def finalists_of(found: Search, stock: Candidate, always: str | None) -> list[Candidate]:
    """Who has a turn on fresh traces, in this order: `always`, with the settings that the search found for it, first."""
    finalists = [c for c in found.best(FINALISTS + 1, below=0.0) if c != stock]
    if always is None:
        return finalists[:FINALISTS]
    named = next((c for c in finalists if c.strategy == always), Candidate(always))
    return [named, *(c for c in finalists if c != named)][:FINALISTS]


def confirmed(
    lab: Lab, stock: Candidate, finalists: list[Candidate], first_seed: int, until: float, deadline: float
) -> tuple[Mapping[str, Block], list[Confirmation]]:
    """One finalist after another on the same fresh traces, until one is shown to be better and to keep every
    guardrail. P-values are corrected over all finalists, whether their turn comes or not. The first has time until
    `deadline`, which the others, `until` their time is over, leave to what comes after."""
    for turn in range(min(1, len(finalists)), len(finalists) + 1):
        tried = finalists[:turn]
        blocks = fresh_blocks(lab, [stock, *tried], first_seed, deadline if turn <= 1 else until)
        confirmations = confirm(blocks, STOCK, [c.label for c in tried], lab.config, len(finalists))
        held = any(done.recommended and not done.unsure for done in confirmations)
        if time.monotonic() >= until or held:
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
