"""Compares the strategies of a sweep with a baseline: pairs, tests, verdicts, guardrails."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import mean

from tracking.config import GuardrailRule
from tracking.guardrails import GuardrailCheck, check_guardrail
from tracking.metrics import METRICS
from tracking.runs import Cell, StoredRun, Sweep, cell_titles
from tracking.statistics import PairedTest, Verdict, holm, paired_test, pairs_needed, verdict

Block = dict[str, list[StoredRun]]  # strategy -> its runs (repeats) of one seed


@dataclass(frozen=True)
class Comparison:
    """One strategy against the baseline in one metric. `p_holm` is corrected over the strategies."""

    metric: str
    strategy: str
    test: PairedTest
    p_holm: float
    verdict: Verdict


@dataclass
class Table:
    """All comparisons in one cell, among blocks of one state ("ok", "saturated" or "no pressure")."""

    title: str
    state: str
    baseline: str
    seeds: list[str]
    strategies: list[str]
    comparisons: list[Comparison]
    guardrails: list[GuardrailCheck]
    runs: list[StoredRun]
    notes: list[str] = field(default_factory=list)


def compare(
    sweep: Sweep,
    baseline: str,
    metrics: Sequence[str],
    rules: Sequence[GuardrailRule] = (),
    strategies: Sequence[str] | None = None,
) -> list[Table]:
    """One table a cell and state; cells in order of appearance, states as in `by_state`.

    Raises ValueError, in one line, if there is no baseline, nothing to compare it with, a single seed,
    or if one cell mixes hardware or, for one seed, traces.
    """
    known = sorted({run.strategy for run in sweep.runs})
    for name in [baseline, *(strategies or ())]:
        if name not in known:
            key, have = "baseline" if name == baseline else "strategies", ", ".join(known) or "none"
            raise ValueError(f"{key}={name!r}: no finished run in sweep {sweep.name}; it has {have}")
    others = [name for name in strategies or known if name != baseline]
    if not others:
        raise ValueError(f"sweep {sweep.name}: {baseline} is its only strategy, nothing to compare it with")
    runs = [run for run in sweep.runs if run.strategy in (baseline, *others)]
    cells: dict[Cell, list[StoredRun]] = defaultdict(list)
    for run in runs:
        cells[run.cell].append(run)
    titles = cell_titles(cells)
    tables = []
    for cell, members in cells.items():
        blocks = checked_blocks(titles[cell], members, baseline)
        for state, chosen in by_state(blocks).items():
            tables.append(_table(titles[cell], state, baseline, others, chosen, metrics, rules))
    return tables


def checked_blocks(title: str, runs: Sequence[StoredRun], baseline: str) -> dict[str, Block]:
    """The runs of a cell by seed; raises ValueError if they must not be compared."""
    hardware = sorted({run.tags.get("hardware", "unknown") for run in runs})
    if len(hardware) > 1:
        raise ValueError(f"{title}: mixed hardware in one comparison: {'; '.join(hardware)}")
    if all(run.strategy != baseline for run in runs):
        raise ValueError(f"{title}: no run of the baseline {baseline!r}")
    blocks: dict[str, Block] = defaultdict(lambda: defaultdict(list))
    for run in runs:
        blocks[run.seed][run.strategy].append(run)
    for seed, block in blocks.items():
        traces = sorted({run.trace_hash[:12] for members in block.values() for run in members})
        if len(traces) > 1:
            raise ValueError(f"{title}: mixed traces for seed {seed}: trace hashes {', '.join(traces)}")
    if len(blocks) < 2:
        seed = next(iter(blocks))
        raise ValueError(f"{title}: a single seed ({seed}); a comparison needs several, 8 is a good number")
    return dict(sorted(blocks.items(), key=lambda item: (len(item[0]), item[0])))


def by_state(blocks: dict[str, Block]) -> dict[str, dict[str, Block]]:
    """The blocks of a cell in up to two tables.

    Blocks in which nobody was preempted say nothing about victims and stand apart. The others stay
    together, "saturated" if any of their runs is, else "ok": whether a run drained is an outcome of its
    strategy, so that sorting blocks by it would select on the outcome.
    """
    pressed = {seed: block for seed, block in blocks.items() if any(r.preempted for r in runs_of(block))}
    calm = {seed: block for seed, block in blocks.items() if seed not in pressed}
    state = "saturated" if any(r.saturated for block in pressed.values() for r in runs_of(block)) else "ok"
    return {name: some for name, some in ((state, pressed), ("no pressure", calm)) if some}


def runs_of(block: Block) -> list[StoredRun]:
    return [run for members in block.values() for run in members]


def _table(
    title: str,
    state: str,
    baseline: str,
    others: Sequence[str],
    blocks: dict[str, Block],
    metrics: Sequence[str],
    rules: Sequence[GuardrailRule],
) -> Table:
    runs = [run for block in blocks.values() for run in runs_of(block)]
    present = [name for name in others if any(name in block for block in blocks.values())]
    comparisons = []
    for metric in metrics:
        tests = {name: test for name in present if (test := _test(blocks, baseline, name, metric))}
        corrected = holm([test.p_value for test in tests.values()])
        for (name, test), p in zip(tests.items(), corrected, strict=True):
            word = verdict(test, p, METRICS[metric].better, len(tests)) if state != "no pressure" else state
            comparisons.append(Comparison(metric, name, test, p, word))
    checks = [check_guardrail(rule, name, blocks, baseline) for name in present for rule in rules]
    table = Table(title, state, baseline, list(blocks), present, comparisons, checks, runs)
    table.notes = _notes(table, blocks, metrics)
    return table


def _test(blocks: dict[str, Block], baseline: str, strategy: str, metric: str) -> PairedTest | None:
    pairs = paired_values(blocks, baseline, strategy, metric)
    return paired_test(*zip(*pairs, strict=True)) if pairs else None


def paired_values(
    blocks: dict[str, Block], baseline: str, strategy: str, metric: str
) -> list[tuple[float, float]]:
    """(baseline, strategy) of every block that has both; repeats of a seed are averaged."""
    pairs = []
    for block in blocks.values():
        values = [
            [run.metrics[metric] for run in block.get(name, ()) if metric in run.metrics]
            for name in (baseline, strategy)
        ]
        if all(values):
            pairs.append((mean(values[0]), mean(values[1])))
    return pairs


def _notes(table: Table, blocks: dict[str, Block], metrics: Sequence[str]) -> list[str]:
    """What a reader must know before trusting the table."""
    notes = []
    count, needed = len(table.strategies), pairs_needed(len(table.strategies))
    if len(blocks) < needed:
        notes.append(
            f"better or worse cannot be said with {len(blocks)} seeds: {needed} are the fewest for "
            f"{count} strateg{'y' if count == 1 else 'ies'} against a baseline"
        )
    full = sum(any(run.saturated for run in runs_of(block)) for block in blocks.values())
    if full:
        notes.append(
            f"saturated in {full} of {len(blocks)} seeds: the queue of a run grew until its last arrival, so "
            "its latencies depend on how long the run was"
        )
    for name in [table.baseline, *table.strategies]:
        runs = [run for run in table.runs if run.strategy == name]
        missing = [seed for seed, block in blocks.items() if name not in block]
        if missing:
            notes.append(f"{name}: no finished run for seed {', '.join(missing)}")
        degraded = sum(run.degraded for run in runs)
        if degraded:
            notes.append(f"{name}: {degraded} of {len(runs)} runs degraded: the engine chose in its place")
        completion = min((run.metrics.get("completion_rate", 1.0) for run in runs), default=1.0)
        if completion < 1:
            notes.append(f"{name}: only {completion:.1%} completed in a run; mean latencies are lower bounds")
    absent = [m for m in metrics if all(c.metric != m for c in table.comparisons)]
    if absent:
        notes.append(f"not measured here: {', '.join(absent)}")
    return notes
