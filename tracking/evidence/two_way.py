"""Two questions at once: what a setting gains by itself, what a policy gains beside each of its levels, and whether
the two add up.

Such a setting is a router, a device or a pool; levels met the same traces, so all is of pairs. With E the metric's
value of a policy at a level, and the baseline's policy and the first level as references:

    level        E(baseline, level) / E(baseline, first)
    policy       E(policy, level) / E(baseline, level)
    interaction  the policy's ratio at the level / the one at the first: 1 = the gains multiply, as if neither knew the other
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite

from tracking.evidence.blocks import cells_of, checked_blocks, have_sessions
from tracking.evidence.config import EvidencePlan
from tracking.evidence.neighbours import groups
from tracking.evidence.outcomes import Block, pairing
from tracking.evidence.statistics import PairedTest, paired_test
from tracking.store.reader import Cell, StoredRun, StoredSweep, cell_titles

Level = str
Levels = dict[Level, list[StoredRun]]


@dataclass(frozen=True)
class Row:
    """One level: the baseline against itself at the first level (None there), and each policy against the baseline here."""

    level: Level
    baseline: PairedTest | None
    policies: Mapping[str, PairedTest]
    interactions: Mapping[str, PairedTest]  # empty at the first level


@dataclass(frozen=True)
class TwoWay:
    """The levels of `setting` where all else is equal, in order of appearance; `metric` is the primary one."""

    title: str
    setting: str
    metric: str
    baseline: str
    rows: tuple[Row, ...]
    seeds: int  # pairs that there could be
    late: int = 0  # seeds left out: a baseline's client was late at some level


def two_way(
    sweep: StoredSweep, setting: str, baseline: str, strategies: Sequence[str], plan: EvidencePlan
) -> list[TwoWay]:
    """One for each group of cells that differ in `setting` alone.

    A setting `a.b.name` is a choice: what else is in `a.b` goes with it. Raises ValueError, in one line, where no two
    cells differ in it, or where they met other traces.
    """
    cells = cells_of(sweep, [baseline, *strategies])
    found = {rest: levels for rest, levels in _grouped(cells, setting).items() if len(levels) > 1}
    if not found:
        have = sorted({key for key, values in _values(cells).items() if len(values) > 1})
        choice = f"; did you mean {setting}.name?" if f"{setting}.name" in have else ""
        raise ValueError(
            f"across={setting!r}: no two of the sweep's cells differ in it and nothing else; "
            f"they differ in {', '.join(have) or 'nothing'}{choice}"
        )
    titles = cell_titles(found)
    return [
        _table(titles[rest], setting, levels, baseline, strategies, plan) for rest, levels in found.items()
    ]


def _grouped(cells: Mapping[Cell, list[StoredRun]], setting: str) -> dict[Cell, Levels]:
    """By what the cells have in common, their levels. Of a choice `a.b.name`, what else is in `a.b` is a part of the
    choice, unless it varies by itself: then it is another table if all have it, else another level."""
    having = [cell for cell in cells if setting in dict(cell)]
    group = setting.removesuffix("name") if setting.endswith(".name") else None
    parts = {key for cell in having for key, _ in cell if group and key.startswith(group) and key != setting}
    values = {key: [(dict(cell)[setting], dict(cell).get(key)) for cell in having] for key in parts}
    by_itself = {key for key, pairs in values.items() if len(set(pairs)) > len({level for level, _ in pairs})}
    own = {key for key in by_itself if any(value is None for _, value in values[key])}
    dropped = {setting, *(parts - by_itself), *own}
    found: dict[Cell, Levels] = defaultdict(dict)
    for cell in having:
        settings = dict(cell)
        told = [f"{key.removeprefix(group or '')}={settings[key]}" for key in sorted(own) if key in settings]
        level = ", ".join([settings[setting], *told])
        rest = tuple((key, value) for key, value in cell if key not in dropped)
        found[rest].setdefault(level, []).extend(cells[cell])
    return found


def _values(cells: Mapping[Cell, object]) -> dict[str, set[str]]:
    values: dict[str, set[str]] = defaultdict(set)
    for cell in cells:
        for key, value in cell:
            values[key].add(value)
    return values


def _table(
    title: str, setting: str, levels: Levels, baseline: str, strategies: Sequence[str], plan: EvidencePlan
) -> TwoWay:
    blocks = _joined(title, setting, levels, baseline)
    late = {
        seed
        for seed, block in blocks.items()
        for level in levels
        if any(run.late_client for run in block.get(_label(level, baseline), ()))
    }
    blocks = {seed: block for seed, block in blocks.items() if seed not in late}
    metric = plan.primary_of(have_sessions(blocks))
    first = next(iter(levels))
    present = [s for s in strategies if any(run.strategy == s for runs in levels.values() for run in runs)]

    def test(base: tuple[Level, str], other: tuple[Level, str]) -> PairedTest | None:
        pairs = pairing(blocks, _label(*base), _label(*other), metric, owed=True)
        if not pairs.seeds:
            return None
        return paired_test(
            pairs.baseline, pairs.strategy, matters=plan.matters(metric), groups=groups(blocks, pairs.seeds)
        )

    def ratios(level: Level, strategy: str) -> dict[str, float]:
        pairs = pairing(blocks, _label(level, baseline), _label(level, strategy), metric, owed=True)
        return {seed: b / a for seed, (a, b) in zip(pairs.seeds, pairs.pairs, strict=True) if a > 0}

    def interaction(level: Level, strategy: str) -> PairedTest | None:
        here, there = ratios(level, strategy), ratios(first, strategy)
        # A policy that failed at both levels says nothing of their difference.
        both = [seed for seed in here if seed in there and (isfinite(here[seed]) or isfinite(there[seed]))]
        if not both:
            return None
        return paired_test(
            [there[seed] for seed in both],
            [here[seed] for seed in both],
            matters=plan.matters(metric),
            groups=groups(blocks, both),
        )

    rows = []
    for level in levels:
        policies = {s: t for s in present if (t := test((level, baseline), (level, s)))}
        interactions = {s: t for s in present if level != first and (t := interaction(level, s))}
        against = None if level == first else test((first, baseline), (level, baseline))
        rows.append(Row(level, against, policies, interactions))
    return TwoWay(title, setting, metric, baseline, tuple(rows), len(blocks), len(late))


def _joined(title: str, setting: str, levels: Levels, baseline: str) -> dict[str, Block]:
    """By seed, the runs of every level and strategy. Raises ValueError where a seed's trace is not the same at all levels."""
    joined: dict[str, dict[str, list[StoredRun]]] = defaultdict(dict)
    traces: dict[str, set[str]] = defaultdict(set)
    for level, runs in levels.items():
        for seed, block in checked_blocks(f"{title}, {setting}={level}", runs, baseline).items():
            for strategy, members in block.items():
                joined[seed][_label(level, strategy)] = list(members)
                traces[seed] |= {run.observed for run in members if run.observed}
    mixed = [seed for seed, known in traces.items() if len(known) > 1]
    if mixed:
        raise ValueError(
            f"{title}: across={setting!r}: seed {mixed[0]} has another trace at another level: there are no pairs"
        )
    return dict(joined)


def _label(level: Level, strategy: str) -> str:
    return f"{level} / {strategy}"
