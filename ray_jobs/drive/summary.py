"""The means a sweep prints: one row a strategy, one table for each workload and load."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from math import isinf
from statistics import mean

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tracking.evidence.simulated import guessed
from tracking.metrics.catalogue import METRICS
from tracking.metrics.metric import Metric
from tracking.reporting.rows import name_width

COLUMNS = {
    "ttft_p50_s": "TTFT\np50", "ttft_p90_s": "TTFT\np90", "tpot_mean_s": "TPOT\nms", "e2e_mean_s": "E2E\nmean",
    "e2e_p90_s": "E2E\np90", "throughput_tok_s": "tok/s", "slo_attainment": "SLO met", "preemptions": "preemp-\ntions",
    "executed_tax": "exec.\ntax",
}  # fmt: skip
MORE = {
    "completion_rate": "done", "ttft_p99_s": "TTFT\np99", "e2e_p99_s": "E2E\np99", "itl_p99_s": "ITL\np99",
    "preemptions_max": "most for\none", "nominal_tax": "nominal\ntax", "select_us_mean": "select\nµs",
}  # fmt: skip
MILLISECONDS = ("tpot_mean_s",)


@dataclass
class Row:
    """What the table needs of one run."""

    group: str  # workload and load: runs of one group are comparable
    strategy: str
    metrics: dict[str, float]
    flags: dict[str, str]


def summary_tables(rows: Sequence[Row], wide: bool = False) -> list[Table]:
    """One table a group, in order of appearance; means over the runs of a strategy. 80 columns, unless `wide`."""
    groups: dict[str, dict[str, list[Row]]] = {}
    for row in rows:
        groups.setdefault(row.group, {}).setdefault(row.strategy, []).append(row)
    columns = COLUMNS | MORE if wide else COLUMNS
    return [_table(group, strategies, columns) for group, strategies in groups.items()]


def summary_text(rows: Sequence[Row]) -> str:
    """The tables with all columns as plain text, wide enough that nothing is cut."""
    console = Console(file=io.StringIO(), width=240)
    for table in summary_tables(rows, wide=True):
        console.print(table)
    return console.file.getvalue()


def _table(group: str, strategies: dict[str, list[Row]], columns: dict[str, str]) -> Table:
    runs = sorted({len(runs) for runs in strategies.values()})
    means = f"means of {'-'.join(map(str, runs))} runs" if runs != [1] else "one run each"
    table = Table(
        title=Text(f"{group}: {means}; seconds, unless it says ms"), title_justify="left", title_style="dim", header_style="bold",
        box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False,
    )  # fmt: skip
    guesses = sorted({found for some in strategies.values() for run in some if (found := guessed(run.flags))})
    if guesses:
        table.caption, table.caption_justify = Text("; ".join(guesses), style="yellow"), "left"
    table.add_column("strategy", overflow="fold", min_width=name_width(list(strategies)))
    shown = [
        name for name in columns if any(name in run.metrics for some in strategies.values() for run in some)
    ]
    for name in shown:
        table.add_column(columns[name], justify="right", no_wrap=True)
    for strategy, members in strategies.items():
        cells = [
            _cell(METRICS[name], [r.metrics[name] for r in members if name in r.metrics]) for name in shown
        ]
        flags = ", ".join(_flags(members))
        table.add_row(Text(strategy).append(f" ({flags})" if flags else "", style="yellow"), *cells)
    return table


def _cell(metric: Metric, values: list[float]) -> str:
    if not values:
        return "-"
    value = mean(values)
    if isinf(value):
        return "failed"
    if metric.unit == "share":
        return f"{value:.0%}" if value in (0.0, 1.0) else f"{value:.1%}"
    if metric.name in MILLISECONDS:
        value *= 1000
    if value >= 100 or value == int(value):
        return f"{value:.0f}"
    return f"{value:.3g}"


def _flags(runs: Sequence[Row]) -> list[str]:
    """Each flag that not every run could do without, with how many runs have it."""
    marks = {
        "pressure": ("no pressure", "no pressure"),
        "saturated": ("true", "saturated"),
        "degraded": ("true", "degraded"),
        "late_client": ("true", "late client"),
        "engine_tested": ("false", "untested engine"),
    }
    done = mean(run.metrics.get("completion_rate", 1.0) for run in runs)
    found = [f"{done:.1%} done"] if done < 1 else []
    for flag, (value, words) in marks.items():
        count = sum(run.flags.get(flag) == value for run in runs)
        if count:
            found.append(words + (f" {count}/{len(runs)}" if len(runs) > 1 else ""))
    return found
