"""The table a sweep prints: metrics x strategies, one table for each workload and load."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from math import isinf
from statistics import mean

from rich.console import Console
from rich.table import Table

from tracking.metrics.catalogue import METRICS
from tracking.metrics.metric import Metric

ROWS = (
    "completion_rate", "ttft_p50_s", "ttft_p90_s", "ttft_p99_s", "tpot_mean_s", "itl_p99_s", "e2e_mean_s",
    "e2e_p90_s", "e2e_p99_s", "throughput_tok_s", "slo_attainment", "preemptions", "preemptions_max",
    "nominal_tax", "executed_tax", "select_us_mean",
)  # fmt: skip


@dataclass
class Row:
    """What the table needs of one run."""

    group: str  # workload and load: runs of one group are comparable
    strategy: str
    metrics: dict[str, float]
    flags: dict[str, str]


def summary_tables(rows: Sequence[Row]) -> list[Table]:
    """One table a group, in order of appearance; means over the runs of a strategy."""
    groups: dict[str, dict[str, list[Row]]] = {}
    for row in rows:
        groups.setdefault(row.group, {}).setdefault(row.strategy, []).append(row)
    return [_table(group, strategies) for group, strategies in groups.items()]


def summary_text(rows: Sequence[Row]) -> str:
    """The tables as plain text, wide enough that nothing is cut."""
    console = Console(file=io.StringIO(), width=240)
    for table in summary_tables(rows):
        console.print(table)
    return console.file.getvalue()


def _table(group: str, strategies: dict[str, list[Row]]) -> Table:
    table = Table(title=group, title_justify="left", header_style="bold")
    table.add_column("", no_wrap=True)
    for strategy in strategies:
        table.add_column(strategy, justify="right", overflow="fold")
    for metric in (METRICS[name] for name in ROWS):
        values = [
            [r.metrics[metric.name] for r in runs if metric.name in r.metrics] for runs in strategies.values()
        ]
        if any(values):
            title = metric.title if metric.symbol in ("", "%") else f"{metric.title}, {metric.symbol}"
            table.add_row(title, *(_cell(metric, v) for v in values))
    if any(len(runs) > 1 for runs in strategies.values()):
        table.add_row("runs (means above)", *(str(len(runs)) for runs in strategies.values()))
    flags = [", ".join(_flags(runs)) for runs in strategies.values()]
    if any(flags):
        table.add_row("flags", *flags)
    return table


def _cell(metric: Metric, values: list[float]) -> str:
    if not values:
        return "-"
    value = mean(values)
    if isinf(value):
        return "failed"
    if metric.unit == "share":
        return f"{value:.1%}"
    if value >= 100 or value == int(value):
        return f"{value:.0f}"
    return f"{value:.3g}"


def _flags(runs: Sequence[Row]) -> list[str]:
    """Each flag that not every run could do without, with how many runs have it."""
    marks = {
        "pressure": ("no pressure", "no pressure"),
        "saturated": ("true", "saturated"),
        "degraded": ("true", "degraded"),
        "engine_tested": ("false", "untested engine"),
    }
    found = []
    for flag, (value, words) in marks.items():
        count = sum(run.flags.get(flag) == value for run in runs)
        if count:
            found.append(words + (f" {count}/{len(runs)}" if len(runs) > 1 else ""))
    return found
