"""KV blocks held by running requests over time, with every preemption marked."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tracking.metrics.samples import kv_blocks
from tracking.plots.style import MUTED, envelope, look, new_figure, say_empty
from tracking.result import RunResult

PREEMPTION = "#D55E00"


def kv_figure(results: Mapping[str, RunResult], title: str = "") -> Figure:
    """One run of each strategy under the other, on one time axis."""
    with look():
        figure = new_figure(height=0.7 + 1.25 * len(results))
        figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
        axes = figure.subplots(len(results), 1, sharex=True, squeeze=False)[:, 0]
        for ax, (name, result) in zip(axes, results.items(), strict=True):
            draw_kv(ax, result)
            ax.set_title(name, fontsize=10)
        axes[-1].set_xlabel("seconds since the run's start")
        return figure


def draw_kv(ax: Axes, result: RunResult) -> None:
    """Share of the KV cache in use (cached but free blocks left out); a tick on top per preemption."""
    blocks = kv_blocks(result)
    if not len(result.steps) or not blocks:
        say_empty(ax, "no step records")
        return
    at, share = envelope(
        (result.steps["t"] - result.started_t).to_numpy(),
        (100 * result.steps["used_blocks"] / blocks).to_numpy(float),
    )
    dense = len(at) > 2000
    ax.fill_between(at, share, step="post", color="#56B4E9", alpha=0.35, linewidth=0, rasterized=dense)
    ax.step(at, share, where="post", color="#0072B2", linewidth=1.0, rasterized=dense)
    marks = np.array([e["t"] - result.started_t for e in result.events if e["type"] == "preempt"])
    ax.plot(marks, np.full(len(marks), 106), "|", color=PREEMPTION, markersize=8, markeredgewidth=0.9)
    ax.set_ylim(0, 114)
    ax.set_yticks([0, 50, 100])
    ax.axhline(100, color=MUTED, linewidth=0.6)
    ax.set_xlim(left=0)
    ax.set_ylabel("KV in use, %")
    text = f"{len(marks)} preemptions" if len(marks) != 1 else "1 preemption"
    early = _of_warm_up(result)
    text += f", {early} of them of the warm-up, which no metric counts" if early else ""
    ax.text(
        1.0, 1.02, f"| {text}", color=PREEMPTION, fontsize=9, ha="right", va="bottom", transform=ax.transAxes
    )


def _of_warm_up(result: RunResult) -> int:
    """Preemptions of requests that no metric counts."""
    warm = set(result.requests.loc[result.requests["warmup"].astype(bool), "request_id"])
    return sum(event["type"] == "preempt" and event["victim"] in warm for event in result.events)
