"""The figure that a report opens with: mean E2E against p99 E2E, one point a strategy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tracking.evidence.frontier import FrontierPoint, frontier_points, undominated
from tracking.evidence.paired import Table
from tracking.plots.ratios import FARTHEST, clipped, ratio_axis
from tracking.plots.style import FAINT, INK, MUTED, look, new_figure, say_empty, strategy_styles

ACROSS = 3  # panels side by side
PAD = 0.12  # of the axis, on each side


def frontier_figure(tables: Sequence[Table]) -> Figure:
    """One panel a table: ratios to the baseline with 95 % intervals; the strategies that no other beats in
    both are joined. Left and down is better."""
    found = [frontier_points(table) for table in tables]
    names = [table.baseline for table in tables] + [name for table in tables for name in table.strategies]
    styles = strategy_styles(names)
    columns = min(ACROSS, len(tables))
    lines = -(-len(tables) // columns)
    single = len(tables) == 1
    with look():
        figure = new_figure(height=5.0 if single else 0.9 + 3.0 * lines)
        axes = figure.subplots(lines, columns, squeeze=False).ravel()
        for ax in axes[len(tables) :]:
            ax.set_axis_off()
        for ax, table, points in zip(axes, tables, found, strict=False):
            ax.set_title(table.title, fontsize=11 if single else 9)
            if len(points) < 2:
                say_empty(ax, "too few requests for a p99")
                continue
            _draw(ax, points, styles, named=single)
        if not single:
            handles = [
                axes[0].plot([], [], color=style["color"], marker=style["marker"], ls="none", label=name)[0]
                for name, style in styles.items()
            ]
            figure.legend(handles=handles, loc="outside upper left", ncols=min(6, len(handles)))
        figure.supxlabel(f"mean E2E, ratio to {tables[0].baseline}", fontsize=10)
        figure.supylabel("p99 E2E, ratio", fontsize=10)
        return figure


def _draw(ax: Axes, points: Sequence[FrontierPoint], styles: dict, named: bool) -> None:
    best = undominated(points)
    ax.axvline(1, color=FAINT, linewidth=1)
    ax.axhline(1, color=FAINT, linewidth=1)
    ax.plot(
        [clipped(p.mean.value) for p in best], [clipped(p.tail.value) for p in best], "-", color=MUTED, linewidth=1,
        zorder=1,
    )  # fmt: skip
    for point in points:
        style, x, y = styles[point.strategy], clipped(point.mean.value), clipped(point.tail.value)
        for interval, place, horizontal in ((point.mean, y, True), (point.tail, x, False)):
            if np.isfinite([interval.low, interval.high]).all():
                ends = [clipped(interval.low), clipped(interval.high)]
                xs, ys = (ends, [place] * 2) if horizontal else ([place] * 2, ends)
                ax.plot(xs, ys, color=style["color"], linewidth=1.2, alpha=0.45, zorder=2)
        ax.plot(
            x,
            y,
            style["marker"],
            color=style["color"],
            mec="white",
            mew=0.6,
            ms=8 if point in best else 6,
            zorder=3,
        )
        if max(point.mean.value, point.tail.value) > FARTHEST:
            ax.annotate(
                f"{point.tail.value:.1f}×",
                (x, y),
                xytext=(0, 5),
                textcoords="offset points",
                fontsize=8,
                ha="center",
            )
    _fit(ax.xaxis, [p.mean for p in points])
    _fit(ax.yaxis, [p.tail for p in points])
    if named:
        for point in points:
            place = (clipped(point.mean.value), clipped(point.tail.value))
            weight = "bold" if point in best else "normal"
            ax.annotate(
                point.strategy,
                place,
                xytext=(7, 6) if point is not points[0] else (7, -13),  # the baseline's, apart from its likes
                textcoords="offset points",
                fontsize=9,
                color=INK,
                weight=weight,
            )


def _fit(axis, intervals: Sequence) -> None:
    """From the lowest to the highest end that is drawn, 1 included; a wild interval may leave the picture."""
    values = np.log([clipped(i.value) for i in intervals])
    ends = np.log(
        [clipped(x) for i in intervals for x in (i.low, i.high) if np.isfinite(x) and x > 0] or [1.0]
    )
    span = max(float(np.ptp(values)), np.log(1.05))
    low = max(min(ends.min(), values.min()), values.min() - 1.2 * span) - PAD * span
    high = min(max(ends.max(), values.max()), values.max() + 1.2 * span) + PAD * span
    ratio_axis(axis, max(-low, PAD * span), max(high, PAD * span))
