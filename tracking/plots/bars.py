"""Strategies side by side in a few metrics: bars are means over runs, dots are the runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tracking.metrics.catalogue import METRICS
from tracking.plots.style import FAINT, INK, look, new_figure, strategy_styles

FROM_THE_TOP = ("slo_attainment", "completion_rate")

Values = Mapping[str, Sequence[Mapping[str, float]]]  # strategy -> the metrics of its runs


def preemption_figure(values: Values, title: str = "") -> Figure:
    """Preemptions, and what they cost: the nominal tax in the background, the executed tax in front."""
    with look():
        figure = new_figure(height=0.9 + 0.42 * len(values))
        figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
        counts, worst, tax = figure.subplots(1, 3, sharey=True, width_ratios=[1, 1, 1.4])
        draw_bars(counts, values, "preemptions", "preemptions per run")
        draw_bars(worst, values, "preemptions_max", "most preemptions of one request")
        styles = strategy_styles(values)
        for row, (name, runs) in enumerate(values.items()):
            nominal = _of(runs, "nominal_tax", 100)
            if len(nominal):
                tax.barh(row, nominal.mean(), color=styles[name]["color"], alpha=0.25, height=0.62)
        draw_bars(tax, values, "executed_tax", "tax, % of executed tokens (pale: nominal)")
        return figure


def summary_figure(groups: Mapping[str, Values], metrics: Mapping[str, str]) -> Figure:
    """One row of panels a group (workload and load), one column a metric (name -> label)."""
    tallest = max(len(values) for values in groups.values())
    with look():
        figure = new_figure(height=len(groups) * (0.8 + 0.36 * tallest))
        rows = figure.subfigures(len(groups), 1, squeeze=False)[:, 0]
        for row, (group, values) in zip(rows, groups.items(), strict=True):
            row.suptitle(group, x=0.01, ha="left", fontsize=11, fontweight="bold")
            axes = row.subplots(1, len(metrics), sharey=True, squeeze=False)[0]
            for ax, (metric, label) in zip(axes, metrics.items(), strict=True):
                (draw_dots if metric in FROM_THE_TOP else draw_bars)(ax, values, metric, label)
        return figure


def draw_dots(ax: Axes, values: Values, metric: str, label: str) -> None:
    """As `draw_bars`, for a share near 100 %: marks on an axis that ends there, so that 95 is told from 98."""
    styles = strategy_styles(values)
    lowest = 100.0
    for row, (name, runs) in enumerate(values.items()):
        found = _of(runs, metric, 100)
        if not len(found):
            ax.text(0, row, " -", va="center", fontsize=9, transform=ax.get_yaxis_transform())
            continue
        if len(found) > 1:
            ax.plot(found, np.full(len(found), row), "o", ms=3.2, mfc="white", mec=INK, mew=0.7)
        ax.plot(found.mean(), row, styles[name]["marker"], color=styles[name]["color"], ms=7)
        ax.annotate(
            f"{found.mean():.3g}", (1.0, row), xycoords=ax.get_yaxis_transform(), xytext=(3, 0),
            textcoords="offset points", va="center", fontsize=9, color=INK,
        )  # fmt: skip
        lowest = min(lowest, found.min())
    ax.set_xlim(*share_limits(lowest))
    _rows_of(ax, values, label)


def share_limits(lowest: float) -> tuple[float, float]:
    """Ends of an axis of percents that shows `lowest` and 100."""
    room = max(100.0 - lowest, 1.0)
    return max(-2.0, lowest - 0.12 * room), 100.0 + 0.06 * room


def draw_bars(ax: Axes, values: Values, metric: str, label: str) -> None:
    """Horizontal bars in the order of `values`, first on top, with the mean written at the end."""
    scale = 100 if METRICS[metric].unit == "share" else 1
    styles = strategy_styles(values)
    widest = 0.0
    for row, (name, runs) in enumerate(values.items()):
        found = _of(runs, metric, scale)
        if not len(found):
            ax.text(0, row, " -", va="center", fontsize=9)
            continue
        mean = found.mean()
        ax.barh(row, mean, color=styles[name]["color"], height=0.62, alpha=0.85)
        if len(found) > 1:
            ax.plot(found, np.full(len(found), row), "o", ms=3.2, mfc="white", mec=INK, mew=0.7)
        end = max(mean, found.max())
        ax.text(end, row, f"  {mean:.3g}", va="center", fontsize=9, color=INK)
        widest = max(widest, end, ax.dataLim.x1)
    if METRICS[metric].unit == "preemptions":
        ax.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    ax.set_xlim(0, 1.3 * widest or 1)
    _rows_of(ax, values, label)


def _rows_of(ax: Axes, values: Values, label: str) -> None:
    ax.set_yticks(range(len(values)), list(values))
    ax.set_ylim(len(values) - 0.45, -0.55)
    ax.set_xlabel(label, fontsize=9)
    ax.grid(axis="y", visible=False)
    ax.grid(axis="x", color=FAINT)
    ax.tick_params(axis="y", length=0)


def _of(runs: Sequence[Mapping[str, float]], metric: str, scale: float) -> np.ndarray:
    return np.array([scale * run[metric] for run in runs if metric in run])
