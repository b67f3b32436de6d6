"""The table a sweep prints: metrics x strategies, one table for each workload and load."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean

from rich.console import Console
from rich.table import Table

from tracking.metrics import METRICS

ROWS = {
    "completion_rate": "completed",
    "ttft_p50_s": "TTFT p50",
    "ttft_p90_s": "TTFT p90",
    "ttft_p99_s": "TTFT p99",
    "tpot_mean_s": "TPOT mean",
    "itl_p99_s": "ITL p99",
    "e2e_mean_s": "E2E mean",
    "e2e_p90_s": "E2E p90",
    "e2e_p99_s": "E2E p99",
    "throughput_tok_s": "throughput",
    "slo_attainment": "SLO met",
    "preemptions": "preemptions",
    "preemptions_max": "most for one request",
    "nominal_tax": "nominal tax",
    "executed_tax": "executed tax",
    "select_us_mean": "selector",
}
SHARES = {"completion_rate", "slo_attainment", "nominal_tax", "executed_tax"}
UNIT_NAMES = {"preemptions": "", "share": "", "tokens/s": "tok/s", "us": "µs"}


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
    for name, title in ROWS.items():
        values = [[r.metrics[name] for r in runs if name in r.metrics] for runs in strategies.values()]
        if any(values):
            unit = "" if name in SHARES else UNIT_NAMES.get(METRICS[name].unit, METRICS[name].unit)
            table.add_row(f"{title}, {unit}" if unit else title, *(_cell(name, v) for v in values))
    if any(len(runs) > 1 for runs in strategies.values()):
        table.add_row("runs (means above)", *(str(len(runs)) for runs in strategies.values()))
    flags = [", ".join(_flags(runs)) for runs in strategies.values()]
    if any(flags):
        table.add_row("flags", *flags)
    return table


def _cell(name: str, values: list[float]) -> str:
    if not values:
        return "-"
    value = mean(values)
    if name in SHARES:
        return f"{value:.1%}"
    if value >= 100 or value == int(value):
        return f"{value:.0f}"
    return f"{value:.3g}"


def _flags(runs: Sequence[Row]) -> list[str]:
    """Each flag that not every run could do without, with how many runs have it."""
    marks = {"pressure": "no pressure", "saturated": "true", "degraded": "true"}
    found = []
    for flag, value in marks.items():
        count = sum(run.flags.get(flag) == value for run in runs)
        if count:
            found.append(
                (value if flag == "pressure" else flag) + (f" {count}/{len(runs)}" if len(runs) > 1 else "")
            )
    return found
