"""The first section of a report: the answer, the frontier, where it holds and who pays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace

import numpy as np

from tracking.evidence.blocks import NO_VERDICT
from tracking.evidence.classes import who_pays
from tracking.evidence.paired import Table
from tracking.plots.regimes import FEWEST
from tracking.reporting.figures import classes_figure, frontier_figure, regime_figure, sweep_figure
from tracking.reporting.headline import ORDER, headline, overall
from tracking.reporting.page import Grid, Note, Picture, Section
from tracking.reporting.rows import under_pressure
from tracking.reporting.words import change, effect, short_name, times
from tracking.store.reader import Cell, StoredRun, StoredSweep

SHOWN = ("ttft_mean_s", "throughput_tok_s", "slo_attainment", "preemptions_max")
FEW = 3  # loads whose sentences stand above the figures; of more they are folded away
PANELS = 12  # loads that a frontier still shows


def summary_section(
    sweep: StoredSweep,
    runs: Sequence[StoredRun],
    titles: Mapping[Cell, str],
    tables: Sequence[Table],
    refusal: str | None,
) -> Section:
    """What a reader should take away, in words and figures."""
    parts: list = [Note(f"No verdict: {refusal}.", strong=True)] if refusal else []
    sentence = overall(tables)
    if sentence:
        parts.append(Note(f"{sentence}.", lead=True))
    pressed = pressed_tables(tables)
    few = len(tables) <= FEW
    if few:
        parts += [Note(f"{table.title}: {headline(table)}.", lead=sentence is None) for table in tables]
        parts += [
            Note(f"{table.title}, {under_pressure(table)}.") for table in tables if table.under_pressure
        ]
    parts += _unfinished(sweep)
    if pressed:
        caption = (
            "Mean against p99 E2E, both as ratios to the baseline, with 95 % intervals; left and down is better. The "
            "line joins the strategies that no other beats in both."
        )
        if len(pressed) > PANELS:
            caption += f" The {PANELS} loads with the longest mean E2E; the map below has all."
        parts.append(Picture("frontier", frontier_figure(hardest(pressed)), caption))
    if len(pressed) >= FEWEST:
        caption = (
            f"Change of {short_name(tables[0].primary)} in percent, coloured by verdict; a red frame: a guardrail is "
            "broken there."
        )
        if any(table.scale.fits is not None for table in pressed):
            caption += " Under each load: how many requests its pool fits (tokens of prompt and output, in the mean), and "
            caption += "the share of the engine's capacity; from the smallest pool on."
        parts.append(Picture("regimes", regime_figure(by_scale(pressed)), caption))
    if not few:
        rows = [[table.title, table.scale.text or "-", table.state, headline(table)] for table in tables]
        parts.append(
            Grid(
                ("workload and load", "scale", "state", "answer"),
                rows,
                "The answer for each workload and load.",
                folded=True,
            )
        )
    if tables:
        parts.append(answers_grid(tables, folded=not few))
    if few:
        parts += [
            part for table in pressed for part in classes_parts(table, f"paid-{tables.index(table) + 1}")
        ]
    rows = [SimpleNamespace(group=titles[r.cell], strategy=r.strategy, metrics=r.metrics) for r in runs]
    if len(titles) <= PANELS // 2:
        parts.append(
            Picture("sweep", sweep_figure(rows), "Bars and marks are means over runs, dots are runs.")
        )
    return Section("In short", parts)


def by_scale(tables: Sequence[Table]) -> list[Table]:
    """From the pool that fits the fewest requests on, the lower load first; those of which nobody knows last."""
    return sorted(tables, key=lambda t: (t.scale.fits or np.inf, t.scale.load or np.inf))


def pressed_tables(tables: Sequence[Table]) -> list[Table]:
    """Those that have verdicts."""
    return [table for table in tables if table.state not in NO_VERDICT]


def classes_parts(table: Table, name: str) -> list:
    """Who pays: a figure of mean E2E by class, and a table with the deadlines if there are any."""
    classes = who_pays(table)
    if not classes:
        return []
    caption = f"Who pays: mean E2E of each class of requests and of the largest 5 %, as a ratio to {table.baseline}."
    parts: list = [
        Picture(name, classes_figure(classes, table.baseline, f"{table.title}: who pays"), caption)
    ]
    kinds = list(dict.fromkeys(result.kind for result in classes))
    found = {(result.strategy, result.kind): result for result in classes}
    missed = any(result.missed is not None and any(result.missed) for result in classes)
    rows = []
    for strategy in dict.fromkeys(result.strategy for result in classes):
        mine = [found.get((strategy, kind)) for kind in kinds]
        cells = [change(result.ratio) if result else "-" for result in mine]
        rows.append([strategy, *cells, *(_missed(result) for result in mine if missed)])
    header = ["strategy", *(f"{kind}: mean E2E [95 %]" for kind in kinds)]
    header += [f"{kind}: missed" for kind in kinds if missed]
    caption = "The same in numbers."
    if missed:
        caption += " missed: share of deadlines missed, by the baseline and by the strategy."
    elif any(result.missed for result in classes):
        caption += " No deadline was missed."
    return [*parts, Grid(header, rows, caption)]


def answers_grid(tables: Sequence[Table], folded: bool = False) -> Grid:
    """A row a strategy: guardrails beside its name, the primary verdict, and what other metrics say."""
    first = tables[0]
    metrics = [m for m in SHOWN if any(c.metric == m for t in tables for c in t.comparisons)]
    header = ["workload", "strategy", "guardrails", "verdict", f"{short_name(first.primary)} [95 %]"]
    header += [f"{short_name(metric)} [95 %]" for metric in metrics]
    rows = []
    for table in tables:
        name = table.title + (f" ({table.state})" if table.state != "ok" else "")
        for strategy in table.strategies:
            row = table.find(table.primary, strategy)
            word = row.verdict if row else "not measured"
            broken = any(check.status != "held" for check in table.guards(strategy))
            label = strategy + (" (A/A)" if strategy in table.controls else "")
            cells = ["better, but" if word == "better" and broken else word]
            cells += [_effect(table, metric, strategy) for metric in (table.primary, *metrics)]
            rows.append(
                [name if strategy == table.strategies[0] else "", label, guards_text(table, strategy), *cells]
            )
    caption = (
        f"Against {first.baseline}. The verdict is that of {short_name(first.primary)}, corrected over all rows; the other "
        "columns are exploratory. All metrics are below."
    )
    if len(tables) == 1:  # its name stands above
        return Grid(header[1:], [row[1:] for row in rows], caption, (1, 2), folded=folded)
    return Grid(header, rows, caption, (2, 3), folded=folded)


def guards_text(table: Table, strategy: str) -> str:
    """The states of a strategy's guardrails, the worst first: "broken p99 TTFT 2.6x; held 3"."""
    checks, parts = table.guards(strategy), []
    for status in ORDER:
        some = [check for check in checks if check.status == status]
        if some and status == "held":
            parts.append("held" if len(some) == len(checks) else f"held {len(some)}")
        elif some:
            names = [short_name(c.metric) + (f" {times(c.ratio)}" if c.ratio else "") for c in some]
            parts.append(f"{status} {', '.join(names)}")
    return "; ".join(parts) or "-"


def _effect(table: Table, metric: str, strategy: str) -> str:
    row = table.find(metric, strategy)
    return effect(row.test, metric) if row else "-"


def _missed(result) -> str:
    return f"{result.missed[0]:.1%}, {result.missed[1]:.1%}" if result and result.missed else "-"


def hardest(tables: Sequence[Table]) -> list[Table]:
    """At most PANELS, those in which the baseline's requests take longest, in the order given."""

    def level(table: Table) -> float:
        row = next((c for c in table.comparisons if c.metric == table.primary), None)
        return float(np.nan_to_num(row.test.baseline_mean)) if row else 0.0

    kept = sorted(tables, key=level, reverse=True)[:PANELS]
    return [table for table in tables if table in kept]


def _unfinished(sweep: StoredSweep) -> list[Note]:
    failed = {run.name for run in sweep.failed}
    notes = []
    for what, names in (
        ("Failed, counts as the worst result of its seed", [n for n in sweep.unfinished if n in failed]),
        ("Not finished, left out", [n for n in sweep.unfinished if n not in failed]),
    ):
        if names:
            notes.append(Note(f"{what}: {', '.join(names)}.", strong=True))
    return notes
