"""How latencies are distributed: one curve a strategy, over the requests of all its runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tracking.metrics.measure import measured_requests
from tracking.plots.style import MUTED, look, new_figure, plain_log, strategy_styles
from tracking.result import RunResult

PANELS = {"ttft": "TTFT, s", "tpot": "TPOT, s/token", "e2e": "E2E, s"}


def cdf_figure(
    results: Mapping[str, Sequence[RunResult]], limits: Mapping[str, float] | None = None, title: str = ""
) -> Figure:
    """`results` by strategy; `limits` (seconds, by panel) are drawn as the SLO.

    A curve that ends below 100 % has requests that never got there.
    """
    tables = {name: pd.concat([measured_requests(r) for r in runs]) for name, runs in results.items()}
    styles = strategy_styles(results)
    with look():
        figure = new_figure(height=3.4)
        figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
        axes = figure.subplots(1, len(PANELS), sharey=True)
        for ax, (column, label) in zip(axes, PANELS.items(), strict=True):
            for name, table in tables.items():
                _draw(ax, table[column].dropna().to_numpy(float), name, styles[name])
            if limits and column in limits:
                ax.axvline(limits[column], color=MUTED, linewidth=1, linestyle="--")
                ax.text(limits[column], 1.0, " SLO", color=MUTED, fontsize=8, va="bottom")
            plain_log(ax.xaxis)
            ax.set_xlabel(label)
            ax.set_ylim(0, 1.0)
        axes[0].set_ylabel("share of requests")
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower left", ncols=min(5, len(labels)))
        return figure


def _draw(ax: Axes, values: np.ndarray, name: str, style: dict) -> None:
    finite = np.sort(values[np.isfinite(values)])
    share = np.arange(1, len(finite) + 1) / max(1, len(values))
    ax.step(finite, share, where="post", label=name, color=style["color"], linestyle=style["linestyle"])
