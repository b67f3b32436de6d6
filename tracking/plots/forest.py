"""The verdicts as a picture: ratio to the baseline with its interval, a panel a strategy."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from tracking.evidence.comparison import Comparison, Table
from tracking.metrics.catalogue import metric_title
from tracking.plots.style import INK, look, new_figure, say_empty

LOOKS = {
    "better": ("#0072B2", "o"),
    "worse": ("#D55E00", "s"),
    "different": ("#CC79A7", "D"),
    "equivalent": ("#8a8a8a", "o"),
    "no difference shown": ("#8a8a8a", "o"),
    "too few runs": ("#bdbdbd", "o"),
    "no pressure": ("#bdbdbd", "o"),
}
FARTHEST = 4.0  # ratios beyond it sit at the edge with their value beside them
FAR_OUT = 1e6  # for an interval that ends at 0 or infinity; off every axis
TICKS = (1.02, 1.05, 1.1, 1.2, 1.5, 2)
ACROSS = 3  # panels side by side


def forest_figure(table: Table) -> Figure:
    """Every metric that has a ratio; an arrow at its name points to the side that is better."""
    rows = [c for c in table.comparisons if c.test.ratio is not None]
    metrics = list(dict.fromkeys(row.metric for row in rows))
    columns = min(ACROSS, max(1, len(table.strategies)))
    lines = -(-len(table.strategies) // columns) or 1
    with look():
        figure = new_figure(height=0.4 + lines * (1.1 + 0.27 * max(3, len(metrics))))
        axes = figure.subplots(lines, columns, sharey=True, sharex=True, squeeze=False).ravel()
        for ax, strategy in zip(axes, table.strategies, strict=False):
            _draw(ax, [row for row in rows if row.strategy == strategy], metrics)
            ax.set_title(strategy)
        for ax in axes[len(table.strategies) :]:
            ax.set_axis_off()
        if not metrics:
            say_empty(axes[0], "no metric is positive in every run")
            return figure
        _set_ticks(axes[0], rows)
        used = {row.verdict for row in rows}
        handles = [
            axes[0].plot([], [], marker, color=colour, label=word)[0]
            for word, (colour, marker) in LOOKS.items()
            if word in used
        ]
        figure.legend(handles=handles, loc="outside upper right", ncols=len(handles))
        figure.supxlabel(f"ratio to {table.baseline}, 95 % interval", fontsize=10)
        return figure


def _draw(ax: Axes, rows: list[Comparison], metrics: list[str]) -> None:
    ax.axvline(1, color=INK, linewidth=0.8)
    for row in rows:
        y, ratio = metrics.index(row.metric), row.test.ratio
        colour, marker = LOOKS[row.verdict]
        if not np.isnan(ratio.low):
            ends = np.clip([ratio.low, ratio.high], 1 / FAR_OUT, FAR_OUT)
            ax.plot(ends, [y, y], color=colour, linewidth=1.8, solid_capstyle="butt")
        ax.plot(np.clip(ratio.value, 1 / FARTHEST, FARTHEST), y, marker, color=colour, markersize=5)
        if not 1 / FARTHEST <= ratio.value <= FARTHEST:
            _write_value(ax, ratio.value, y)
    ax.set_yticks(range(len(metrics)), [metric_title(metric) for metric in metrics], fontsize=9)
    ax.set_ylim(len(metrics) - 0.4, -0.6)
    ax.grid(axis="x", color="#e8e8e8")
    ax.tick_params(axis="y", length=0)
    ax.set_xscale("log")


def _write_value(ax: Axes, ratio: float, y: int) -> None:
    """Writes a ratio that is off the axis beside its mark at the edge."""
    edge, side, shift = (FARTHEST, "right", -7) if ratio > 1 else (1 / FARTHEST, "left", 7)
    offset = {"xytext": (shift, 0), "textcoords": "offset points"}
    ax.annotate(f"{ratio:.3g}x", (edge, y), ha=side, va="bottom", fontsize=8, **offset)


def _set_ticks(ax: Axes, rows: list[Comparison]) -> None:
    """A log axis around 1 with round ratios, the same for all panels (they share x)."""
    ends = [x for row in rows for x in (row.test.ratio.low, row.test.ratio.high, row.test.ratio.value)]
    with np.errstate(divide="ignore"):  # a ratio of 0 or inf: one of the two failed
        farthest = np.nanmax(np.abs(np.log(ends)))
    reach = float(np.clip(1.08 * farthest, np.log(1.05), np.log(FARTHEST)))
    ax.set_xlim(np.exp(-reach), np.exp(reach))
    step = next((step for step in TICKS if np.log(step) >= reach / 2.2), TICKS[-1])
    ticks = [1 / step, 1.0, step]
    ax.set_xticks(ticks, [f"{tick:.3g}" for tick in ticks])
    ax.xaxis.set_minor_locator(NullLocator())
