"""Comparisons as text: the cells that the terminal, the Markdown and the HTML tables share."""

from __future__ import annotations

import numpy as np
from rich import box
from rich.console import Group
from rich.table import Table as RichTable
from rich.text import Text

from tracking.evidence.guardrails import GuardrailCheck
from tracking.evidence.paired import Comparison, Table
from tracking.evidence.statistics import Interval
from tracking.metrics.catalogue import METRICS, metric_title
from tracking.reporting.words import size

HEADER = (
    "metric", "strategy", "verdict", "ratio [95 %]", "difference [95 %]", "p (Holm)", "baseline", "mean",
    "detectable", "pairs",
)  # fmt: skip
VERDICT_COLUMN = HEADER.index("verdict")
GUARDRAIL_HEADER = ("guardrail", "strategy", "status", "limit", "ratio [95 %]", "from")
COLOURS = {
    "better": "green", "worse": "red", "different": "blue", "equivalent": "dim", "no difference shown": "dim",
    "too few runs": "yellow", "no pressure": "dim", "late client": "dim", "no baseline": "yellow", "degraded": "yellow",
    "held": "green", "broken": "red", "unsure": "yellow", "not measured": "dim",
}  # fmt: skip
CALLED = ("better", "worse", "different")
EXPLORATORY = " (exploratory)"  # not the primary metric: corrected over strategies only, so a hint at most
LISTED = 20  # seeds in a title
STATE_NAMES = {
    "ok": "",
    "saturated": " (saturated)",
    "no pressure": " (no pressure: nobody waited for memory or was preempted)",
    "late client": " (late client: requests were sent, or answers read, too late)",
}


def title(table: Table) -> str:
    """What was compared, and on which seeds."""
    names = table.seeds if len(table.seeds) <= LISTED else [*table.seeds[: LISTED - 1], "..."]
    seeds = f"{len(table.seeds)} seed{'s' * (len(table.seeds) != 1)}: {', '.join(names)}"
    return f"{table.title}{STATE_NAMES[table.state]}, against {table.baseline}, {seeds}"


def number(value: float, digits: int = 3) -> str:
    """`digits` significant digits without an exponent; whole numbers of more digits stay whole."""
    return fixed(value, decimals(value, digits))


def decimals(value: float, digits: int = 3) -> int:
    """Places after the point that show `digits` significant digits."""
    if not np.isfinite(value) or value == 0:
        return 0
    return max(0, digits - 1 - int(np.floor(np.log10(abs(value)))))


def fixed(value: float, places: int, sign: bool = False) -> str:
    if not np.isfinite(value):
        return "-" if np.isnan(value) else ("\N{INFINITY}" if value > 0 else "-\N{INFINITY}")
    text = f"{value:,.{places}f}"
    if float(text.replace(",", "")) == 0:
        return text.removeprefix("-")
    return f"+{text}" if sign and value > 0 else text


def interval(value: Interval, places: int, sign: bool = False) -> str:
    """ "value [low, high]"; the value alone if it has no ends or they are the same."""
    shown = [fixed(x, places, sign) for x in (value.value, value.low, value.high)]
    if np.isnan(value.low) or value.low == value.high:
        return shown[0]
    return f"{shown[0]} [{shown[1]}, {shown[2]}]"


def comparison_cells(row: Comparison) -> tuple[str, ...]:
    """The cells under HEADER."""
    test = row.test
    scale = 100 if METRICS[row.metric].unit == "share" else 1
    difference = Interval(
        *(scale * x for x in (test.difference.value, test.difference.low, test.difference.high))
    )
    ends = [abs(x) for x in (difference.value, difference.low, difference.high) if np.isfinite(x)]
    largest = scale * np.nanmax(np.abs([test.baseline_mean, test.mean, 0.0]))
    places = min(decimals(max(ends, default=0.0)), decimals(largest, 5))
    return (
        metric_title(row.metric),
        row.strategy,
        row.verdict + (EXPLORATORY if row.exploratory and row.verdict in CALLED else ""),
        interval(test.ratio, 3) if test.ratio else "-",
        interval(difference, places, sign=True),
        f"{row.p_holm:.3f}" if row.p_holm >= 0.001 else "<0.001",
        number(scale * test.baseline_mean),
        number(scale * test.mean),
        size(test, row.metric, row.family),
        f"{test.pairs}/{row.blocks}" + (f", {test.failed} failed" if test.failed else ""),
    )


def guardrail_cells(check: GuardrailCheck) -> tuple[str, ...]:
    """The cells under GUARDRAIL_HEADER."""
    ratio = interval(check.ratio, 3) if check.ratio else "-"
    return check.metric, check.strategy, check.status, check.limit, ratio, check.how


def rich_tables(table: Table) -> Group:
    """Every comparison and guardrail of a table, for a terminal; what does not fit is folded, not cut."""
    main = RichTable(*HEADER, header_style="bold", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for column in main.columns:
        column.overflow = "fold"
    for column in main.columns[VERDICT_COLUMN + 1 :]:
        column.justify = "right"
    shown = None
    for row in table.comparisons:
        metric, strategy, word, *numbers = comparison_cells(row)
        main.add_row(Text("" if row.metric == shown else metric), Text(strategy), coloured(word), *numbers)
        shown = row.metric
    parts: list = [main]
    if table.guardrails:
        guards = RichTable(*GUARDRAIL_HEADER, header_style="bold", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
        for column in guards.columns:
            column.overflow = "fold"
        for check in table.guardrails:
            metric, strategy, word, *rest = guardrail_cells(check)
            guards.add_row(metric, Text(strategy), coloured(word), *rest)
        parts.append(guards)
    return Group(*parts, "")


def coloured(word: str) -> Text:
    """A verdict or a status in its colour; exploratory ones have none."""
    return Text(word, style="dim" if word.endswith(EXPLORATORY) else COLOURS.get(word, ""))
