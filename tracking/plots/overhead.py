"""What a decision costs: time of the victim policy against the number of candidates."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tracking.plots.style import label_line_ends, look, new_figure, plain_log, say_empty, strategy_styles
from tracking.result import RunResult


def selector_times(result: RunResult) -> pd.DataFrame:
    """One row a decision of a run's policy: `candidates` (requests) and `us` (microseconds)."""
    rows = [
        (len(event["candidates"]), event["select_ns"] / 1e3)
        for event in result.events
        if event["type"] == "preempt"
        and event.get("select_ns")
        and event.get("source", "strategy") == "strategy"
    ]
    return pd.DataFrame(rows, columns=["candidates", "us"]).astype({"candidates": int, "us": float})


def overhead_figure(times: Mapping[str, pd.DataFrame], title: str = "") -> Figure:
    """`times` by strategy, from `selector_times`. Dots are decisions, lines their medians."""
    styles = strategy_styles(times)
    with look():
        figure = new_figure(height=3.6)
        figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
        ax = figure.subplots()
        ends = []
        for name, table in times.items():
            if not len(table):
                continue
            style = styles[name]
            ax.plot(table["candidates"], table["us"], ".", color=style["color"], alpha=0.25, ms=4,
                    rasterized=len(table) > 1000)  # fmt: skip
            medians = table.groupby("candidates")["us"].median()
            ax.plot(medians.index, medians, color=style["color"], linestyle=style["linestyle"])
            ends.append((medians.index[-1], medians.iloc[-1], name, style["color"]))
        if not ends:
            say_empty(ax, "no policy decided anything")
            return figure
        plain_log(ax.yaxis)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.set(xlabel="candidates (running requests that could be preempted)", ylabel="time per decision, µs")
        label_line_ends(ax, ends)
        return figure
