"""Compares the strategies of a sweep with a baseline: pairs, tests, verdicts, guardrails."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from tracking.evidence.blocks import (
    CALM,
    LATE,
    NO_VERDICT,
    by_state,
    cells_of,
    checked_blocks,
    controls,
    have_sessions,
    pressed,
    runs_of,
)
from tracking.evidence.caveats import caveats_on, mostly_degraded
from tracking.evidence.config import EvidencePlan, GuardrailRule
from tracking.evidence.guardrails import GuardrailCheck, check_all, guarded
from tracking.evidence.neighbours import groups
from tracking.evidence.notes import notes_on
from tracking.evidence.outcomes import Block, Pairing, pairing
from tracking.evidence.scale import Scale, scale_of
from tracking.evidence.statistics import Interval, PairedTest, Verdict, as_family, holm, paired_test, verdict
from tracking.metrics.catalogue import METRICS
from tracking.store.reader import StoredRun, StoredSweep, cell_titles
from tracking.strategies import in_order

NO_BASELINE = (
    0.25  # of the pairs without a result of the baseline, or with a late client: beyond it no verdict
)


@dataclass(frozen=True)
class Comparison:
    """One strategy against the baseline in one metric; `blocks` is how many pairs there could be.

    `caveats` are what a reader must hear in one breath with the verdict. `p_holm` is corrected over `family` comparisons: for the primary metric the strategies of all tables
    of the sweep, for others (exploratory) those of the table. A control (A/A) stands alone.
    """

    metric: str
    strategy: str
    test: PairedTest
    p_holm: float
    verdict: Verdict
    blocks: int
    family: int
    exploratory: bool
    caveats: tuple[str, ...] = ()

    @property
    def smallest_shown(self) -> float:
        return self.test.smallest_shown(self.family)


@dataclass
class Table:
    """All comparisons in one cell, among blocks of one state ("ok", "saturated", "no pressure", "late client").

    `controls` are the strategies whose configuration is the baseline's: they should show no difference.
    `under_pressure` has each strategy's primary test over the seeds under pressure alone, where there are
    others; `pressed_seeds` are those. `late_seeds` are in another table: the baseline's client was late.
    """

    title: str
    state: str
    baseline: str
    primary: str
    blocks: dict[str, Block]
    strategies: list[str]
    controls: list[str] = field(default_factory=list)
    comparisons: list[Comparison] = field(default_factory=list)
    under_pressure: dict[str, PairedTest] = field(default_factory=dict)
    pressed_seeds: list[str] = field(default_factory=list)
    late_seeds: list[str] = field(default_factory=list)
    guardrails: list[GuardrailCheck] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def seeds(self) -> list[str]:
        return list(self.blocks)

    @property
    def runs(self) -> list[StoredRun]:
        """The finished ones."""
        return [run for block in self.blocks.values() for run in runs_of(block) if not run.failed]

    @cached_property
    def scale(self) -> Scale:
        """How many requests fit, and how near the load is to capacity: of the baseline's runs, as of all."""
        base = [run for run in self.runs if run.strategy == self.baseline]
        return scale_of(base or self.runs)

    def find(self, metric: str, strategy: str) -> Comparison | None:
        return next((c for c in self.comparisons if (c.metric, c.strategy) == (metric, strategy)), None)

    def guards(self, strategy: str) -> list[GuardrailCheck]:
        return [check for check in self.guardrails if check.strategy == strategy]

    def ratio(self, metric: str, strategy: str) -> Interval | None:
        """Of the runs' values; of a p99 that single runs are too short for, that of all their requests."""
        row = self.find(metric, strategy)
        if row is not None:
            return row.test.ratio
        return next((check.ratio for check in self.guards(strategy) if check.metric == metric), None)


def compare(
    sweep: StoredSweep,
    baseline: str,
    metrics: Sequence[str],
    rules: Sequence[GuardrailRule] = (),
    strategies: Sequence[str] | None = None,
    plan: EvidencePlan | None = None,
) -> list[Table]:
    """One table a cell and state; cells in order of appearance, states as in `by_state`.

    Raises ValueError, in one line, if there is no baseline, nothing to compare it with, a single seed,
    or if one cell mixes hardware, strategies under one label or, for one seed, traces.
    """
    plan = plan or EvidencePlan()
    known = in_order(run.strategy for run in [*sweep.runs, *sweep.failed])
    for name in [baseline, *(strategies or ())]:
        if name not in known:
            key, have = "baseline" if name == baseline else "strategies", ", ".join(known) or "none"
            raise ValueError(f"{key}={name!r}: no finished run in sweep {sweep.name}; it has {have}")
    others = [name for name in strategies or known if name != baseline]
    if not others:
        raise ValueError(f"sweep {sweep.name}: {baseline} is its only strategy, nothing to compare it with")
    cells = cells_of(sweep, [baseline, *others])
    titles = cell_titles(cells)
    tables = []
    for cell, members in cells.items():
        blocks = checked_blocks(titles[cell], members, baseline)
        states = by_state(blocks, baseline)
        late = list(states.get(LATE, ()))
        for state, chosen in states.items():
            present = [name for name in others if any(block.get(name) for block in chosen.values())]
            if not present:  # this cell has none of the strategies that were asked for
                continue
            same = [name for name in controls(members, baseline) if name in present]
            primary = plan.primary_of(have_sessions(chosen))
            table = Table(titles[cell], state, baseline, primary, chosen, present, same)
            table.late_seeds = late if state != LATE else []
            tables.append(table)
    for table in tables:
        table.comparisons = [row for metric in metrics for row in _tested(table, metric, plan)]
        _add_pressed(table, plan)
    _judge(tables)
    for rule in rules:
        cases = [
            (table, guarded(rule, name, table.blocks, baseline))
            for table in tables
            if rule.applies(have_sessions(table.blocks))
            for name in table.strategies
        ]
        for (table, _), check in zip(cases, check_all(rule, [case for _, case in cases]), strict=True):
            table.guardrails.append(check)
    for table in tables:
        table.notes = notes_on(table, metrics)
    return tables


def _tested(table: Table, metric: str, plan: EvidencePlan) -> list[Comparison]:
    """A metric's row for each strategy that has it, before anything is corrected or called."""
    rows, unjudged = [], table.state if table.state in NO_VERDICT else CALM
    base_degraded = mostly_degraded(table.blocks, table.baseline)
    for name in table.strategies:
        primary = metric == table.primary
        found = pairing(table.blocks, table.baseline, name, metric, owed=primary)
        if found.seeds:
            word = unjudged
            gone = len(found.no_baseline) + len(table.late_seeds)
            if gone > NO_BASELINE * (len(found.seeds) + gone):
                word = "no baseline"
            elif base_degraded or mostly_degraded(table.blocks, name):
                word = "degraded"
            test = _test(table, found, plan.matters(metric))
            caveats = caveats_on(table.blocks, table.baseline, name, found, test) if primary else ()
            rows.append(Comparison(metric, name, test, 1.0, word, len(table.blocks), 1, not primary, caveats))
    return rows


def _test(table: Table, found: Pairing, matters: float) -> PairedTest:
    return paired_test(
        found.baseline, found.strategy, matters=matters, groups=groups(table.blocks, found.seeds)
    )


def _add_pressed(table: Table, plan: EvidencePlan) -> None:
    """The primary metric over the seeds under pressure, where some are and others are not."""
    some = pressed(table.blocks)
    if not 0 < len(some) < len(table.blocks):
        return
    table.pressed_seeds = list(some)
    for name in table.strategies:
        found = pairing(some, table.baseline, name, table.primary, owed=True)
        if found.seeds:
            table.under_pressure[name] = _test(table, found, plan.matters(table.primary))


def _judge(tables: Sequence[Table]) -> None:
    """Corrects the p-values within their families and puts the words; tables of `NO_VERDICT` keep their state.

    How skewed and how wide the noise may be is asked of a whole family at once: one comparison alone can hardly tell.
    """
    families: dict[tuple, list[tuple[Table, int]]] = {}
    for number, table in enumerate(tables):
        if table.state in NO_VERDICT:
            continue
        for index, row in enumerate(table.comparisons):
            if row.verdict in ("no baseline", "degraded"):
                continue
            if row.strategy in table.controls:
                family = (row.metric, number, row.strategy)
            else:
                family = (row.metric, number if row.exploratory else None)
            families.setdefault(family, []).append((table, index))
    for members in families.values():
        rows = [table.comparisons[index] for table, index in members]
        tests = as_family([row.test for row in rows])
        rows = [replace(row, test=test) for row, test in zip(rows, tests, strict=True)]
        corrected = holm([row.test.p_value for row in rows])
        for (table, index), row, p in zip(members, rows, corrected, strict=True):
            word = verdict(row.test, p, METRICS[row.metric].better)
            table.comparisons[index] = replace(row, p_holm=p, verdict=word, family=len(rows))
