"""Which engine did what, when."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.patches import Patch

from tracking.plots.style import look, new_figure, strategy_styles

COLUMNS = ("engine", "strategy", "start_s", "end_s")


def engines_figure(runs: Sequence[tuple[str, str, float, float]]) -> Figure:
    """A row an engine, a bar a run; `runs` has COLUMNS, times in seconds since the sweep's first run."""
    engines = sorted({engine for engine, *_ in runs})
    styles = strategy_styles(strategy for _, strategy, *_ in runs)
    with look():
        figure = new_figure(height=0.9 + 0.32 * len(engines))
        ax = figure.subplots()
        for engine, strategy, start, end in runs:
            ax.barh(
                engines.index(engine), end - start, left=start, height=0.7,
                color=styles[strategy]["color"], edgecolor="white", linewidth=0.5,
            )  # fmt: skip
        ax.set_yticks(range(len(engines)), engines)
        ax.invert_yaxis()
        ax.set_xlabel("seconds since the first run")
        used = dict.fromkeys(strategy for _, strategy, *_ in runs)
        ax.legend(
            handles=[Patch(color=styles[name]["color"], label=name) for name in used],
            loc="lower left", bbox_to_anchor=(0, 1), ncols=4,
        )  # fmt: skip
        return figure
