"""Comparisons as text: the cells that the terminal, the Markdown and the HTML tables share."""

from __future__ import annotations

import numpy as np
from rich.console import Group
from rich.table import Table as RichTable
from rich.text import Text

from tracking.comparison import Comparison, Table
from tracking.guardrails import GuardrailCheck
from tracking.metrics import METRICS
from tracking.statistics import Interval

HEADER = (
    "metric", "strategy", "verdict", "ratio [95 %]", "difference [95 %]", "p (Holm)", "baseline", "mean",
)  # fmt: skip
VERDICT_COLUMN = HEADER.index("verdict")
GUARDRAIL_HEADER = ("guardrail", "strategy", "status", "limit", "ratio [95 %]", "from")
COLOURS = {
    "better": "green", "worse": "red", "different": "blue", "no difference shown": "dim",
    "too few runs": "yellow", "no pressure": "dim",
    "held": "green", "broken": "red", "unsure": "yellow", "not measured": "dim",
}  # fmt: skip
UNIT_NAMES = {
    "us": "µs",
    "index": "",
    "ratio": "",
    "share": "%",
    "preemptions": "",
    "requests": "",
    "errors": "",
}
STATE_NAMES = {
    "ok": "",
    "saturated": " (saturated)",
    "no pressure": " (no pressure: nobody was preempted)",
}


def title(table: Table) -> str:
    """What was compared, and on which seeds."""
    seeds = f"{len(table.seeds)} seed{'s' * (len(table.seeds) != 1)}: {', '.join(table.seeds)}"
    return f"{table.title}{STATE_NAMES[table.state]}, against {table.baseline}, {seeds}"


def metric_title(metric: str) -> str:
    """The metric's name with its unit, and an arrow to the side that is better."""
    known = METRICS[metric]
    unit = UNIT_NAMES.get(known.unit, known.unit)
    arrow = {"lower": "↓", "higher": "↑", "none": ""}[known.better]
    return " ".join(part for part in (metric, f"[{unit}]" if unit else "", arrow) if part)


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
        return "-"
    text = f"{value:,.{places}f}"
    if float(text.replace(",", "")) == 0:
        return text.removeprefix("-")
    return f"+{text}" if sign and value > 0 else text


def interval(value: Interval, places: int, sign: bool = False) -> str:
    """ "value [low, high]"; the value alone if it has no ends or they are the same."""
    shown = [fixed(x, places, sign) for x in (value.value, value.low, value.high)]
    if not np.isfinite(value.low) or value.low == value.high:
        return shown[0]
    return f"{shown[0]} [{shown[1]}, {shown[2]}]"


def comparison_cells(row: Comparison) -> tuple[str, ...]:
    """The cells under HEADER."""
    test = row.test
    scale = 100 if METRICS[row.metric].unit == "share" else 1
    difference = Interval(
        *(scale * x for x in (test.difference.value, test.difference.low, test.difference.high))
    )
    widest = max(abs(x) for x in (difference.value, difference.low, difference.high) if np.isfinite(x))
    places = min(decimals(widest), decimals(scale * max(abs(test.baseline_mean), abs(test.mean)), 5))
    return (
        metric_title(row.metric),
        row.strategy,
        row.verdict,
        interval(test.ratio, 3) if test.ratio else "-",
        interval(difference, places, sign=True),
        f"{row.p_holm:.3f}" if row.p_holm >= 0.001 else "<0.001",
        number(scale * test.baseline_mean),
        number(scale * test.mean),
    )


def guardrail_cells(check: GuardrailCheck) -> tuple[str, ...]:
    """The cells under GUARDRAIL_HEADER."""
    ratio = interval(check.ratio, 3) if check.ratio else "-"
    return check.metric, check.strategy, check.status, check.limit, ratio, check.how


def rich_tables(table: Table) -> Group:
    """The comparisons, the guardrails and the notes, for a terminal."""
    parts: list = [Text(title(table), style="bold")]
    main = RichTable(*HEADER, header_style="bold")
    for column in main.columns[VERDICT_COLUMN + 1 :]:
        column.justify = "right"
    for column in main.columns:
        column.no_wrap = column.header != "strategy"
    shown = None
    for row in table.comparisons:
        metric, strategy, word, *numbers = comparison_cells(row)
        main.add_row(Text("" if row.metric == shown else metric), Text(strategy), _coloured(word), *numbers)
        shown = row.metric
    parts.append(main)
    if table.guardrails:
        guards = RichTable(*GUARDRAIL_HEADER, header_style="bold")
        for check in table.guardrails:
            metric, strategy, word, *rest = guardrail_cells(check)
            guards.add_row(metric, Text(strategy), _coloured(word), *rest)
        parts.append(guards)
    parts += [Text(f"note: {note}", style="yellow") for note in table.notes]
    return Group(*parts, "")


def _coloured(word: str) -> Text:
    return Text(word, style=COLOURS.get(word, ""))
