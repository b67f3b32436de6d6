"""Which runs may be compared: the cells of a sweep, their traces, and what must not be mixed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from tracking.evidence.outcomes import Block
from tracking.store.reader import Cell, StoredRun, StoredSweep

CALM, LATE = "no pressure", "late client"
NO_VERDICT = (CALM, LATE)  # states of blocks that cannot tell strategies apart
MOSTLY_SATURATED = 0.5
ONE_TRACE = "="  # joins the seeds that have the same trace, in the name of their block


def cells_of(sweep: StoredSweep, strategies: Sequence[str]) -> dict[Cell, list[StoredRun]]:
    """The runs of these strategies by cell, in order of appearance, with the failed runs of each cell."""
    cells: dict[Cell, list[StoredRun]] = defaultdict(list)
    for run in sweep.runs:
        if run.strategy in strategies:
            cells[run.cell].append(run)
    for run in sweep.failed:
        if run.strategy in strategies:
            sweep_id = run.tags.get("bidkv.sweep")
            for cell, members in cells.items():
                mates = any(other.tags.get("bidkv.sweep") == sweep_id for other in members)
                if mates and run.would_belong_to(cell):
                    members.append(run)
    return dict(cells)


def checked_blocks(title: str, runs: Sequence[StoredRun], baseline: str) -> dict[str, Block]:
    """The runs of a cell by trace; raises ValueError if they must not be compared.

    Seeds that have the same trace, or traces that differ in token ids alone, are repeats of one block,
    named "0=1=2".
    """
    hardware = sorted({run.tags.get("hardware", "unknown") for run in runs if not run.failed})
    if len(hardware) > 1:
        raise ValueError(f"{title}: mixed hardware in one comparison: {'; '.join(hardware)}")
    if all(run.strategy != baseline or run.failed for run in runs):
        raise ValueError(f"{title}: no finished run of the baseline {baseline!r}")
    _check_strategies(title, runs)
    seeds: dict[str, list[StoredRun]] = defaultdict(list)
    for run in runs:
        seeds[run.seed].append(run)
    traces: dict[str, list[str]] = defaultdict(list)
    for seed, members in sorted(seeds.items(), key=lambda item: (len(item[0]), item[0])):
        hashes = sorted({run.trace_hash for run in members})
        if len(hashes) > 1:
            short = ", ".join(trace[:12] for trace in hashes)
            raise ValueError(f"{title}: mixed traces for seed {seed}: trace hashes {short}")
        traces[members[0].observed or f"unknown of seed {seed}"].append(seed)
    if len(seeds) < 2:
        seed = next(iter(seeds))
        raise ValueError(f"{title}: a single seed ({seed}); a comparison needs several, 8 is a good number")
    return {ONE_TRACE.join(same): _block([r for s in same for r in seeds[s]]) for same in traces.values()}


def _block(runs: Sequence[StoredRun]) -> Block:
    block: dict[str, list[StoredRun]] = defaultdict(list)
    for run in runs:
        block[run.strategy].append(run)
    return block


def _check_strategies(title: str, runs: Sequence[StoredRun]) -> None:
    """Runs under one label must be of one strategy: they would be averaged as repeats."""
    for label in dict.fromkeys(run.strategy for run in runs):
        known = [strategy_settings(run) for run in runs if run.strategy == label]
        known = [settings for settings in known if settings]
        for key in sorted({key for settings in known for key in settings}):
            values = sorted({settings.get(key, "not set") for settings in known})
            if len(values) > 1:
                raise ValueError(
                    f"{title}: {label!r} has runs of different {key} ({', '.join(values)}); "
                    "give each its own strategy.label"
                )


def strategy_settings(run: StoredRun) -> dict[str, str]:
    """Everything that says which strategy ran, except how it is called."""
    return {k: v for k, v in run.params.items() if k.startswith("strategy.") and k != "strategy.label"}


def controls(runs: Sequence[StoredRun], baseline: str) -> list[str]:
    """Labels under which the baseline ran again: a comparison with itself (A/A)."""
    settings = {run.strategy: strategy_settings(run) for run in runs}
    same = settings.get(baseline)
    return [label for label, mine in settings.items() if label != baseline and same and mine == same]


def by_state(blocks: Mapping[str, Block], baseline: str) -> dict[str, dict[str, Block]]:
    """The blocks of a cell in up to two tables.

    Blocks in which the client of the baseline was late say nothing about engines and stand apart; where only
    a strategy's was, that is the strategy's failure. The others stay together, calm or not: a strategy that
    slows what is not under pressure must answer for it. They are "no pressure" if no block has any,
    "saturated" if half of them are for the baseline (a single short run may look like it by chance), else "ok".
    """
    late = {s: b for s, b in blocks.items() if any(run.late_client for run in b.get(baseline, ()))}
    timely = {seed: block for seed, block in blocks.items() if seed not in late}
    state = CALM
    if pressed(timely):
        full = len(saturated_seeds(timely, baseline))
        state = "saturated" if full >= MOSTLY_SATURATED * len(timely) else "ok"
    return {name: some for name, some in ((state, timely), (LATE, late)) if some}


def saturated_seeds(blocks: Mapping[str, Block], baseline: str) -> list[str]:
    """The blocks that are more than the baseline serves. It depends on no strategy: they all have the same load."""
    return [seed for seed, block in blocks.items() if any(run.saturated for run in block.get(baseline, ()))]


def pressed(blocks: Mapping[str, Block]) -> dict[str, Block]:
    """The blocks in which somebody waited for memory or was preempted, or in which nobody recorded it."""
    found = {}
    for seed, block in blocks.items():
        known = [run.pressed for run in runs_of(block) if not run.failed and run.pressed is not None]
        if not known or any(known):
            found[seed] = block
    return found


def have_sessions(blocks: Mapping[str, Block]) -> bool:
    """Whether the requests of every run that ended were turns of conversations."""
    runs = [run for block in blocks.values() for run in runs_of(block) if not run.failed]
    return bool(runs) and all(run.metrics.get("sessions", 0) > 0 for run in runs)


def runs_of(block: Block) -> list[StoredRun]:
    return [run for members in block.values() for run in members]
