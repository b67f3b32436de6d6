"""The first screen of a comparison: a sentence, a row for each strategy, who pays, and the notes."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Group
from rich.table import Table as RichTable
from rich.text import Text

from tracking.evidence.classes import ClassResult
from tracking.evidence.comparison import Comparison, Table
from tracking.evidence.guardrails import GuardrailCheck
from tracking.reporting.headline import ORDER, headline
from tracking.reporting.render import coloured, title
from tracking.reporting.words import change, effect, short_name, size, times


def first_screen(table: Table, classes: Sequence[ClassResult] = ()) -> Group:
    """Readable at 80 columns. `classes` come from `tracking.evidence.classes.who_pays`."""
    parts: list = [Text(headline(table), style="bold"), Text(title(table), style="dim"), strategy_rows(table)]
    if classes:
        parts.append(class_rows(classes))
    parts += [Text(f"note: {note}", style="yellow") for note in table.notes]
    return Group(*parts, "")


def strategy_rows(table: Table) -> RichTable:
    """One row a strategy: guardrails beside its name, the primary verdict, its size, and what was not seen."""
    family = max((c.family for c in table.comparisons if not c.exploratory), default=0)
    grid = RichTable(
        box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), header_style="bold", caption_justify="left",
        caption=f"verdicts: {short_name(table.primary)}, Holm over {family}; detectable: the smallest "
        "difference that shows with 80 % power; detail=true: all metrics (exploratory)",
    )  # fmt: skip
    grid.add_column("strategy", overflow="fold", min_width=10)
    grid.add_column("guardrails", overflow="fold", min_width=14)
    grid.add_column("verdict", overflow="fold", min_width=10)
    grid.add_column(f"{short_name(table.primary)} [95 %]", justify="right", overflow="fold", min_width=12)
    grid.add_column("detectable", justify="right", overflow="fold")
    grid.add_column("pairs", justify="right", overflow="fold")
    for name in table.strategies:
        row = table.find(table.primary, name)
        label = Text(name + (" (A/A)" if name in table.controls else ""))
        grid.add_row(
            label, _guardrails(table, name), *(_cells(table, row) if row else ("not measured", *"---"))
        )
    return grid


def _cells(table: Table, row: Comparison) -> tuple[Text, str, str, str]:
    word = coloured(row.verdict)
    if row.verdict == "better" and any(check.status == "broken" for check in table.guards(row.strategy)):
        word = Text("better, but", style="yellow")  # what it breaks stands beside its name
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
    """Mean E2E of each class against the baseline, and missed deadlines before and after."""
    kinds = list(dict.fromkeys(result.kind for result in classes))
    found = {(result.strategy, result.kind): result for result in classes}
    grid = RichTable(
        box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), header_style="bold", caption_justify="left",
        caption="who pays: mean E2E of each class [95 %], and deadlines missed (baseline, then strategy)",
    )  # fmt: skip
    grid.add_column("strategy", overflow="fold", min_width=10)
    for kind in kinds:
        grid.add_column(Text(kind), justify="right", overflow="fold")
    for name in dict.fromkeys(result.strategy for result in classes):
        grid.add_row(Text(name), *(_class_cell(found.get((name, kind))) for kind in kinds))
    return grid


def _class_cell(result: ClassResult | None) -> str:
    if result is None:
        return "-"
    text = change(result.ratio)
    if result.missed is not None:
        text += f"\n{result.missed[0]:.1%}, {result.missed[1]:.1%}"
    return text
