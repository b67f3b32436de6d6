"""What happens as the load grows: throughput against latency, and SLO attainment against rate."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tracking.plots.bars import share_limits
from tracking.plots.style import INK, label_line_ends, look, new_figure, plain_log, strategy_styles

COLUMNS = ("strategy", "rate", "throughput_tok_s", "e2e_mean_s", "slo_attainment", "saturated")


def rates_figure(rows: Sequence[dict], title: str = "") -> Figure:
    """`rows` has one dict a run with the keys COLUMNS. Dots are runs, lines join their means.

    Hollow dots are saturated runs: their latency depends on how long the run was.
    """
    table = pd.DataFrame(list(rows), columns=list(COLUMNS))
    styles = strategy_styles(table["strategy"])
    with look():
        figure = new_figure(height=3.8)
        figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
        curve, slo = figure.subplots(1, 2)
        _draw(curve, table, "throughput_tok_s", "e2e_mean_s", styles)
        curve.set(xlabel="throughput, output tokens/s", ylabel="mean E2E, s")
        plain_log(curve.yaxis)
        _draw(
            slo, table.assign(slo_attainment=100 * table["slo_attainment"]), "rate", "slo_attainment", styles
        )
        slo.set(xlabel="offered rate, requests/s", ylabel="requests within the SLO, %")
        slo.set_ylim(share_limits(100 * float(table["slo_attainment"].min())))
        rates = sorted(table["rate"].unique())
        slo.set_xticks(rates, [f"{rate:g}" for rate in rates])
        _label(slo, table, styles)
        if table["saturated"].any():
            curve.plot([], [], "o", mfc="white", mec=INK, label="saturated run")
            curve.legend(loc="upper left")
        return figure


def _draw(ax: Axes, table: pd.DataFrame, x: str, y: str, styles: dict) -> None:
    for name, runs in table.groupby("strategy"):
        style = styles[name]
        for saturated, some in runs.groupby("saturated"):
            face = "white" if saturated else style["color"]
            ax.plot(some[x], some[y], style["marker"], mfc=face, mec=style["color"], ms=4, alpha=0.6)
        means = (
            runs.groupby("rate")[[x, y]].mean()
            if x != "rate"
            else runs.groupby("rate")[[y]].mean().reset_index()
        )
        ax.plot(means[x], means[y], color=style["color"], linestyle=style["linestyle"])


def _label(ax: Axes, table: pd.DataFrame, styles: dict) -> None:
    ends = []
    for name, runs in table.groupby("strategy"):
        last = runs[runs["rate"] == runs["rate"].max()]
        ends.append(
            (
                float(last["rate"].iloc[0]),
                100 * float(np.mean(last["slo_attainment"])),
                name,
                styles[name]["color"],
            )
        )
    label_line_ends(ax, ends)
