"""Predicted disruption against realised cost, a panel a strategy."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tracking.evidence.surrogate import COSTS, rank_correlation
from tracking.plots.style import MUTED, look, new_figure, strategy_styles

ACROSS = 4  # strategies side by side


def calibration_figure(costs: Mapping[str, pd.DataFrame], title: str = "") -> Figure:
    """`costs` by strategy, from `tracking.evidence.surrogate.preemption_costs`; Spearman's rho in each panel."""
    styles = strategy_styles(costs)
    columns = min(ACROSS, len(costs))
    bands = -(-len(costs) // columns)
    with look():
        figure = new_figure(height=4.4 * bands)
        figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
        axes = figure.subplots(2 * bands, columns, sharey="row", sharex=True, squeeze=False)
        for ax in axes.ravel():
            ax.set_visible(False)
        for i, (name, table) in enumerate(costs.items()):
            for line, (cost, label) in enumerate(COSTS.items()):
                ax = axes[2 * (i // columns) + line, i % columns]
                ax.set_visible(True)
                _draw(ax, table, cost, styles[name]["color"])
                if line == 0:
                    ax.set_title(name)
                else:
                    ax.tick_params(axis="x", labelbottom=True)  # also where another strategy stands below
                if i % columns == 0:
                    ax.set_ylabel(label)
        figure.supxlabel("predicted disruption δ (no unit)", fontsize=10)
        return figure


def _draw(ax: Axes, table: pd.DataFrame, cost: str, colour: str) -> None:
    ax.plot(table["delta"], table[cost], ".", color=colour, alpha=0.4, ms=5, rasterized=len(table) > 1000)
    rho = rank_correlation(table, "delta", cost)
    text = f"n = {len(table)}: no rank correlation" if np.isnan(rho) else f"ρ = {rho:+.2f}, n = {len(table)}"
    box = {"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 1.5}
    ax.text(
        0.97, 0.96, text, transform=ax.transAxes, ha="right", va="top", fontsize=8.5, color=MUTED, bbox=box
    )
