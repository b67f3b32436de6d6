"""How latencies are distributed: one curve a strategy, over the requests of all its runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from tracking.metrics.samples import measured_requests
from tracking.plots.style import MUTED, look, new_figure, plain_log, strategy_styles
from tracking.result import RunResult

PANELS = {"ttft": "TTFT, s", "tpot": "TPOT, s/token", "e2e": "E2E, s"}


def cdf_figure(
    results: Mapping[str, Sequence[RunResult]], limits: Mapping[str, float] | None = None, title: str = ""
) -> Figure:
    """`results` by strategy; `limits` (seconds, by panel) are drawn as the SLO.

    Above, the share of requests that took up to so long: a curve that ends below 1 has requests that never
    got there. Below, the share that took longer, on a log axis, where tails are told apart.
    """
    tables = {name: pd.concat([measured_requests(r) for r in runs]) for name, runs in results.items()}
    styles = strategy_styles(results)
    with look():
        figure = new_figure(height=6.2)
        figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
        rows = figure.subplots(2, len(PANELS), sharey="row")
        most = max(map(len, tables.values()), default=1)
        for (column, label), above, below in zip(PANELS.items(), *rows, strict=True):
            for name, table in tables.items():
                values = table[column].dropna().to_numpy(float)
                _draw(above, values, name, styles[name])
                _draw(below, values, name, styles[name], tail=True)
            for ax in (above, below):
                if limits and column in limits:
                    ax.axvline(limits[column], color=MUTED, linewidth=1, linestyle="--")
                plain_log(ax.xaxis)
            if limits and column in limits:
                above.text(limits[column], 1.0, " SLO", color=MUTED, fontsize=8, va="bottom")
            below.set_xlabel(label)
            above.set_ylim(0, 1.0)
            below.set(yscale="log", ylim=(0.5 / most, 1.05))
            below.yaxis.set_major_formatter(lambda share, _: f"{100 * share:g} %")
            below.yaxis.set_minor_locator(NullLocator())
        rows[0][0].set_ylabel("share of requests up to")
        rows[1][0].set_ylabel("share that takes longer")
        handles, labels = rows[0][0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower left", ncols=min(5, len(labels)))
        return figure


def _draw(ax: Axes, values: np.ndarray, name: str, style: dict, tail: bool = False) -> None:
    finite = np.sort(values[np.isfinite(values)])
    share = np.arange(1, len(finite) + 1) / max(1, len(values))
    if tail:
        share = 1 - share + 1 / max(1, len(values))  # this one included, so that the longest is seen
    kept = thinned(len(finite))
    ax.step(
        finite[kept], share[kept], where="pre" if tail else "post", label=name, color=style["color"],
        linestyle=style["linestyle"], linewidth=1.5,
    )  # fmt: skip


def thinned(count: int, points: int = 600) -> np.ndarray:
    """Indices of a sorted sample that still draw its distribution: evenly spread, and all of the tail's end."""
    if count <= 2 * points:
        return np.arange(count)
    even = np.linspace(0, count - 1, points).astype(int)
    tail = count - 1 - np.unique(np.geomspace(1, count, points).astype(int) - 1)
    return np.unique(np.concatenate([even, tail]))
