"""The first screen of a comparison: a sentence, a row for each strategy, who pays, and the notes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from rich import box
from rich.console import Group
from rich.table import Table as RichTable
from rich.text import Text

from tracking.evidence.classes import ClassResult
from tracking.evidence.guardrails import GuardrailCheck
from tracking.evidence.paired import Comparison, Table
from tracking.metrics.catalogue import METRICS
from tracking.reporting.headline import ORDER, headline, overall
from tracking.reporting.render import coloured, number, title
from tracking.reporting.words import change, effect, short_name, size, times

LONGEST_NAME = 20  # columns


def first_screen(table: Table, classes: Sequence[ClassResult] = ()) -> Group:
    """Readable at 80 columns. `classes` come from `tracking.evidence.classes.who_pays`."""
    parts: list = [Text(headline(table), style="bold"), Text(_about(table), style="dim")]
    parts += [Text(f"scale: {table.scale.text}", style="dim")] if table.scale.text else []
    parts += ["", strategy_rows(table), Text(_explained(table), style="dim")]
    if table.under_pressure:
        parts.append(Text(under_pressure(table)))
    if classes:
        parts += ["", Text(_paid(classes)), "", class_rows(classes)]
    parts += [Text(f"note: {note}", style="yellow") for note in table.notes]
    return Group(*parts, "")


def under_pressure(table: Table) -> str:
    """The primary metric over the seeds under pressure alone; the verdict is of all."""
    effects = [f"{name} {effect(test, table.primary)}" for name, test in table.under_pressure.items()]
    seeds = f"{len(table.pressed_seeds)} of {len(table.blocks)} seeds"
    return f"under pressure alone ({seeds}, no verdict): {'; '.join(effects)}"


def opening(tables: Sequence[Table]) -> Group:
    """The sentence over several workloads and loads; nothing if there is only one."""
    sentence = overall(tables)
    return Group(*([Text(sentence, style="bold"), ""] if sentence else []))


def strategy_rows(table: Table) -> RichTable:
    """One row a strategy: guardrails beside its name, the primary verdict, its size, and what was not seen."""
    grid = _grid()
    grid.add_column("strategy", overflow="fold", min_width=name_width(table.strategies))
    grid.add_column("guardrails", overflow="fold", min_width=14)
    grid.add_column("verdict", overflow="fold", min_width=10)
    grid.add_column(f"{short_name(table.primary)} [95 %]", justify="right", no_wrap=True)
    grid.add_column("detectable", justify="right", overflow="fold", min_width=6)
    rows = [row for name in table.strategies if (row := table.find(table.primary, name))]
    whole = all(row.test.pairs == len(table.seeds) and not row.test.failed for row in rows)
    if not whole:  # else the title says how many there are
        grid.add_column("pairs", justify="right", overflow="fold")
    for name in table.strategies:
        row = table.find(table.primary, name)
        label = Text(name + (" (A/A)" if name in table.controls else ""))
        cells = _cells(table, row) if row else ("not measured", *"---")
        grid.add_row(label, _guardrails(table, name), *cells[: 3 if whole else 4])
    return grid


def name_width(names: Sequence[str]) -> int:
    """Columns that a terminal keeps for the names of strategies; longer names are folded."""
    return min(LONGEST_NAME, max(map(len, names), default=0))


def _about(table: Table) -> str:
    """What was compared, on which seeds, and what the baseline itself measured."""
    row = next((c for c in table.comparisons if c.metric == table.primary), None)
    if row is None or not np.isfinite(row.test.baseline_mean):
        return title(table)
    metric = METRICS[table.primary]
    value = number((100 if metric.unit == "share" else 1) * row.test.baseline_mean)
    return f"{title(table)}; its {short_name(table.primary)}: {value} {metric.symbol}".rstrip()


def _explained(table: Table) -> str:
    family = max((c.family for c in table.comparisons if not c.exploratory), default=0)
    corrected = f", Holm over {family} comparisons" if family > 1 else ""
    return (
        f"verdict: of {short_name(table.primary)}{corrected}; detectable: the smallest difference that these "
        "pairs show with 80 % power; detail=true: all metrics"
    )


def _paid(classes: Sequence[ClassResult]) -> str:
    missed = any(result.missed is not None and any(result.missed) for result in classes)
    more = ", and deadlines missed (baseline, then strategy)" if missed else "; no deadline was missed"
    known = any(result.missed is not None for result in classes)
    return "who pays: mean E2E of each class, and of the largest 5 % by tokens [95 %]" + (
        more if known else ""
    )


def _grid() -> RichTable:
    return RichTable(
        box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold"
    )


def _cells(table: Table, row: Comparison) -> tuple[Text, str, str, str]:
    word = coloured(row.verdict)
    if row.verdict == "better" and any(check.status != "held" for check in table.guards(row.strategy)):
        word = Text("better, but", style="yellow")  # what it breaks, or may, stands beside its name
    pairs = f"{row.test.pairs}/{row.blocks}"
    if row.test.failed:
        pairs += f", {row.test.failed} failed"
    return word, effect(row.test, row.metric), size(row.test, row.metric, row.family), pairs


def _guardrails(table: Table, strategy: str) -> Text:
    """A line for each state, the worst first: "broken p99 TTFT 2.6x"; those that are held need no names."""
    checks = table.guards(strategy)
    lines = []
    for status in ORDER:
        names = [_guardrail(check) for check in checks if check.status == status]
        if names and status != "held":
            lines.append(coloured(status).append(f" {', '.join(names)}"))
        elif names:
            lines.append(
                coloured("held").append(" (all)" if len(names) == len(checks) else f" ({len(names)})")
            )
    return Text("\n").join(lines) if lines else Text("-")


def _guardrail(check: GuardrailCheck) -> str:
    return short_name(check.metric) + (f" {times(check.ratio)}" if check.ratio else "")


def class_rows(classes: Sequence[ClassResult]) -> RichTable:
    """Mean E2E of each class against the baseline and, if any were missed, deadlines before and after."""
    kinds = list(dict.fromkeys(result.kind for result in classes))
    found = {(result.strategy, result.kind): result for result in classes}
    missed = any(result.missed is not None and any(result.missed) for result in classes)
    grid = _grid()
    grid.add_column("strategy", overflow="fold", min_width=name_width([r.strategy for r in classes]))
    for kind in kinds:
        grid.add_column(Text(kind), justify="right", overflow="fold")
    for name in dict.fromkeys(result.strategy for result in classes):
        grid.add_row(Text(name), *(_class_cell(found.get((name, kind)), missed) for kind in kinds))
    return grid


def _class_cell(result: ClassResult | None, missed: bool) -> str:
    if result is None:
        return "-"
    text = change(result.ratio)
    if missed and result.missed is not None:
        text += f"\n{result.missed[0]:.1%}, {result.missed[1]:.1%}"
    if any(result.unserved):
        text += f"\nnot served {result.unserved[0]:.1%}, {result.unserved[1]:.1%}"
    return text
