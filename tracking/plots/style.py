"""One look for all figures: colours a colour-blind reader can tell apart, sizes that read at page width."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from tracking.strategies import looks

WIDTH = 9.0  # inches: a page

INK, MUTED, FAINT = "#222222", "#6b6b6b", "#d9d9d9"

RC = {
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": "#e8e8e8",
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.linewidth": 1.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "svg.hashsalt": "bidkv",  # the same picture has the same bytes
}


@contextmanager
def look() -> Iterator[None]:
    """Inside, matplotlib draws in this look; outside nothing changes."""
    with matplotlib.rc_context(RC):
        yield


def new_figure(height: float, width: float = WIDTH) -> Figure:
    """An empty figure (inches) that needs no display and belongs to no global state."""
    return Figure(figsize=(width, height), dpi=120, layout="constrained")


def strategy_styles(names: Iterable[str]) -> dict[str, dict]:
    """Colour, marker and line of each strategy, for matplotlib."""
    keys = ("color", "marker", "linestyle")
    return {name: dict(zip(keys, look, strict=True)) for name, look in looks(names).items()}


class PlainLogLocator(LogLocator):
    """Ticks at 1, 2 and 5 times powers of ten; over more than two decades at the powers alone."""

    def tick_values(self, vmin: float, vmax: float) -> np.ndarray:
        narrow = vmin > 0 and vmax / vmin < 200
        self.set_params(subs=(1.0, 2.0, 5.0) if narrow else (1.0,), numticks=20)
        return super().tick_values(vmin, vmax)


def plain_log(axis: Axis) -> None:
    """A log axis with plain numbers."""
    axis.axes.set(**{f"{axis.axis_name}scale": "log"})
    axis.set_major_locator(PlainLogLocator())
    axis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.set_minor_locator(NullLocator())


def envelope(x: np.ndarray, y: np.ndarray, columns: int = 800) -> tuple[np.ndarray, np.ndarray]:
    """A long line cut down to what `columns` of pixels can show: lowest and highest value of each.

    `x` rises. A line of up to four values a column stays as it is.
    """
    if len(x) <= 4 * columns:
        return x, y
    column = np.minimum((x - x[0]) / (x[-1] - x[0]) * columns, columns - 1).astype(int)
    starts = np.flatnonzero(np.diff(column, prepend=-1))
    order = np.lexsort((y, column))  # by column, then by value
    ends = np.append(starts[1:], len(x)) - 1
    kept = np.unique(np.concatenate([order[starts], order[ends], [0, len(x) - 1]]))
    return x[kept], y[kept]


def say_empty(ax: Axes, text: str) -> None:
    """An axis that has nothing to show says why."""
    ax.set_axis_off()
    ax.text(0.5, 0.5, text, ha="center", va="center", color=MUTED, transform=ax.transAxes)


def label_line_ends(ax: Axes, ends: list[tuple[float, float, str, str]], gap: float = 0.055) -> None:
    """Writes (x, y, text, colour) right of each line's end, pushed apart by `gap` of the axis height."""
    to_axis = ax.transData + ax.transAxes.inverted()
    points = [(*to_axis.transform((x, y)), text, colour) for x, y, text, colour in ends]
    points.sort(key=lambda point: point[1])
    heights = spread([y for _, y, _, _ in points], gap)
    for (x, _, text, colour), y in zip(points, heights, strict=True):
        ax.text(x + 0.012, y, text, color=colour, va="center", fontsize=9, transform=ax.transAxes)


def spread(heights: list[float], gap: float) -> list[float]:
    """Rising heights moved at least `gap` apart, none above 1 if there is room below."""
    moved: list[float] = []
    for height in heights:
        moved.append(max(height, moved[-1] + gap) if moved else height)
    highest = 1.0
    for i in reversed(range(len(moved))):
        moved[i] = min(moved[i], highest)
        highest = moved[i] - gap
    return moved
