"""The figures, drawn without a display. Each returns a `matplotlib.figure.Figure`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from matplotlib.figure import Figure

from tracking.plots.bars import preemption_figure, summary_figure
from tracking.plots.cdf import cdf_figure
from tracking.plots.classes import classes_figure
from tracking.plots.forest import forest_figure
from tracking.plots.frontier import frontier_figure
from tracking.plots.kv import kv_figure
from tracking.plots.overhead import overhead_figure
from tracking.plots.overview import run_figure
from tracking.plots.rates import rates_figure
from tracking.plots.regimes import regime_figure
from tracking.plots.surrogate import calibration_figure

__all__ = [
    "calibration_figure", "cdf_figure", "classes_figure", "forest_figure", "frontier_figure", "kv_figure",
    "overhead_figure", "preemption_figure", "rates_figure", "regime_figure", "run_figure", "summary_figure",
    "sweep_figure",
]  # fmt: skip

SWEEP_METRICS = {
    "ttft_mean_s": "mean TTFT, s",
    "e2e_mean_s": "mean E2E, s",
    "slo_attainment": "within the SLO, %",
    "preemptions": "preemptions",
    "executed_tax": "executed tax, %",
}


class SweepRow(Protocol):
    """What `sweep_figure` reads of a run (`ray_jobs.drive.summary.Row` has it)."""

    group: str
    strategy: str
    metrics: dict[str, float]


def sweep_figure(rows: Iterable[SweepRow]) -> Figure:
    """A sweep at a glance: a row of panels for each workload and load, strategies in order of appearance."""
    rows = list(rows)
    strategies = dict.fromkeys(row.strategy for row in rows)
    groups: dict[str, dict[str, list[dict[str, float]]]] = {}
    for row in rows:
        group = groups.setdefault(row.group, {name: [] for name in strategies})
        group[row.strategy].append(row.metrics)
    return summary_figure(groups, SWEEP_METRICS)
