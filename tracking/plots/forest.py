"""The verdicts as a picture: ratio to the baseline with its interval, a panel a strategy."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tracking.evidence.paired import Comparison, Table
from tracking.metrics.catalogue import metric_title
from tracking.plots.ratios import FARTHEST, clipped, ratio_axis, reach_of
from tracking.plots.style import INK, look, new_figure, say_empty

LOOKS = {
    "better": ("#0072B2", "o"),
    "worse": ("#D55E00", "s"),
    "different": ("#CC79A7", "D"),
    "equivalent": ("#8a8a8a", "P"),
    "no difference shown": ("#8a8a8a", "o"),
    "too few runs": ("#bdbdbd", "o"),
    "no pressure": ("#bdbdbd", "o"),
    "late client": ("#bdbdbd", "o"),
    "no baseline": ("#bdbdbd", "o"),
    "degraded": ("#bdbdbd", "o"),
}
FAR_OUT = 1e6  # for an interval that ends at 0 or infinity; off every axis
NOT_CALLED = ("interval leaves out 1, not significant after correction", "#5a5a5a", "D")
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
        reach = reach_of(
            x for row in rows for x in (row.test.ratio.low, row.test.ratio.high, row.test.ratio.value)
        )
        for ax in axes[: len(table.strategies)]:
            ratio_axis(ax.xaxis, reach, reach)
            ax.tick_params(axis="x", labelbottom=True)  # under every column, also of panels with others below
        used = {_look(row) for row in rows}
        known = [*((word, *look_of) for word, look_of in LOOKS.items()), NOT_CALLED]
        handles = [
            axes[0].plot(
                [], [], marker, color=colour, mfc="white" if word == NOT_CALLED[0] else colour, label=word
            )[0]
            for word, colour, marker in known
            if (word, colour, marker) in used
        ]
        figure.legend(handles=handles, loc="outside upper right", ncols=min(4, len(handles)))
        figure.supxlabel(f"ratio to {table.baseline}, 95 % interval", fontsize=10)
        return figure


def _draw(ax: Axes, rows: list[Comparison], metrics: list[str]) -> None:
    ax.axvline(1, color=INK, linewidth=0.8)
    for row in rows:
        y, ratio = metrics.index(row.metric), row.test.ratio
        word, colour, marker = _look(row)
        if not np.isnan(ratio.low):
            ends = np.clip([ratio.low, ratio.high], 1 / FAR_OUT, FAR_OUT)
            ax.plot(ends, [y, y], color=colour, linewidth=1.8, solid_capstyle="butt")
        face = "white" if word == NOT_CALLED[0] else colour
        ax.plot(clipped(ratio.value), y, marker, color=colour, markerfacecolor=face, markersize=5)
        if not 1 / FARTHEST <= ratio.value <= FARTHEST:
            _write_value(ax, ratio.value, y)
    ax.set_yticks(range(len(metrics)), [metric_title(metric) for metric in metrics], fontsize=9)
    ax.set_ylim(len(metrics) - 0.4, -0.6)
    ax.grid(axis="x", color="#e8e8e8")
    ax.tick_params(axis="y", length=0)


def _write_value(ax: Axes, ratio: float, y: int) -> None:
    """Writes a ratio that is off the axis beside its mark at the edge."""
    edge, side, shift = (FARTHEST, "right", -7) if ratio > 1 else (1 / FARTHEST, "left", 7)
    offset = {"xytext": (shift, 0), "textcoords": "offset points"}
    ax.annotate(f"{ratio:.3g}x", (edge, y), ha=side, va="bottom", fontsize=8, **offset)


def _look(row: Comparison) -> tuple[str, str, str]:
    """Word of the legend, colour and mark."""
    if row.verdict in ("no difference shown", "too few runs") and row.test.excludes_equal:
        return NOT_CALLED
    return row.verdict, *LOOKS[row.verdict]
