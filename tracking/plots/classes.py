"""Who pays: what each strategy does to each class of requests."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from tracking.evidence.classes import ClassResult
from tracking.plots.ratios import clipped, ratio_axis, reach_of
from tracking.plots.style import INK, look, new_figure, strategy_styles
from tracking.strategies import in_order


def classes_figure(results: Sequence[ClassResult], baseline: str, title: str = "") -> Figure:
    """A panel a class, a row a strategy: mean E2E as a ratio to the baseline with its 95 % interval."""
    kinds = list(dict.fromkeys(result.kind for result in results))
    names = in_order(result.strategy for result in results)
    styles = strategy_styles(names)
    reach = reach_of(x for r in results for x in (r.ratio.value, r.ratio.low, r.ratio.high))
    with look():
        figure = new_figure(height=1.3 + 0.27 * len(names))
        figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
        axes = figure.subplots(1, len(kinds), sharey=True, squeeze=False)[0]
        for ax, kind in zip(axes, kinds, strict=True):
            ax.axvline(1, color=INK, linewidth=0.8)
            for result in (result for result in results if result.kind == kind):
                line, ratio, style = names.index(result.strategy), result.ratio, styles[result.strategy]
                if np.isfinite([ratio.low, ratio.high]).all():
                    ax.plot([clipped(ratio.low), clipped(ratio.high)], [line] * 2, color=style["color"])
                ax.plot(clipped(ratio.value), line, style["marker"], color=style["color"], ms=5.5)
            ax.set_title(kind, fontsize=10)
            ax.set_yticks(range(len(names)), names, fontsize=9)
            ax.set_ylim(len(names) - 0.5, -0.5)
            ax.tick_params(axis="y", length=0)
            ax.grid(axis="x", color="#e8e8e8")
            ratio_axis(ax.xaxis, reach, reach)
        figure.supxlabel(f"mean E2E, ratio to {baseline}, 95 % interval", fontsize=10)
        return figure
