"""Predicted disruption against realised cost, a panel a strategy."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from matplotlib.figure import Figure

from tracking.calibration import COSTS, rank_correlation
from tracking.plots.style import MUTED, look, new_figure, strategy_styles

ACROSS = 4  # strategies side by side


def calibration_figure(costs: Mapping[str, pd.DataFrame], title: str = "") -> Figure:
    """`costs` by strategy, from `tracking.calibration.preemption_costs`; Spearman's rho in each panel."""
    names = list(costs)
    styles = strategy_styles(names)
    columns = min(ACROSS, len(names))
    bands = -(-len(names) // columns)
    with look():
        figure = new_figure(height=4.4 * bands)
        figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
        axes = figure.subplots(2 * bands, columns, sharey="row", sharex=True, squeeze=False)
        for ax in axes.ravel():
            ax.set_visible(False)
        for i, name in enumerate(names):
            for line, (cost, label) in enumerate(COSTS.items()):
                ax = axes[2 * (i // columns) + line, i % columns]
                ax.set_visible(True)
                table = costs[name]
                ax.plot(table["delta"], table[cost], ".", color=styles[name]["color"], alpha=0.4, ms=5,
                        rasterized=len(table) > 1000)  # fmt: skip
                rho = rank_correlation(table, "delta", cost)
                text = (
                    f"ρ = {rho:+.2f}, n = {len(table)}"
                    if rho == rho
                    else f"n = {len(table)}: no rank correlation"
                )
                ax.text(0.97, 0.96, text, transform=ax.transAxes, ha="right", va="top", fontsize=8.5, color=MUTED,
                        bbox={"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 1.5})  # fmt: skip
                if line == 0:
                    ax.set_title(name)
                if i % columns == 0:
                    ax.set_ylabel(label)
        figure.supxlabel("predicted disruption δ (no unit)", fontsize=10)
        return figure
