"""The table a sweep prints: strategy x metrics, one table for each workload and load."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean

from rich.table import Table

from tracking.metrics import METRICS

COLUMNS = {
    "completion_rate": "ok",
    "ttft_p50_s": "TTFT p50",
    "ttft_p90_s": "TTFT p90",
    "tpot_mean_s": "TPOT mean",
    "e2e_mean_s": "E2E mean",
    "e2e_p90_s": "E2E p90",
    "throughput_tok_s": "throughput",
    "slo_attainment": "SLO met",
    "preemptions": "preempt.",
    "preemptions_max": "max/req",
    "nominal_tax": "nominal tax",
    "executed_tax": "executed tax",
    "select_us_mean": "select",
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


def _table(group: str, strategies: dict[str, list[Row]]) -> Table:
    table = Table(title=group, title_justify="left", header_style="bold")
    table.add_column("strategy", no_wrap=True)
    table.add_column("runs", justify="right")
    for name, title in COLUMNS.items():
        unit = UNIT_NAMES.get(METRICS[name].unit, METRICS[name].unit)
        table.add_column(f"{title}\n{unit}" if unit and name not in SHARES else title, justify="right")
    table.add_column("flags")
    for strategy, runs in strategies.items():
        cells = [_cell(name, [r.metrics[name] for r in runs if name in r.metrics]) for name in COLUMNS]
        table.add_row(strategy, str(len(runs)), *cells, ", ".join(_flags(runs)))
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
            found.append((value if flag == "pressure" else flag) + (f" {count}/{len(runs)}" if len(runs) > 1 else ""))
    return found
