"""KV blocks held by running requests over time, with every preemption marked."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from ray_jobs.result import RunResult
from tracking.measure import kv_blocks
from tracking.plots.style import MUTED, say_empty

PREEMPTION = "#D55E00"


def draw_kv(ax: Axes, result: RunResult, label_axis: bool = True) -> None:
    """Share of the KV cache in use (cached but free blocks left out); a tick on top per preemption."""
    blocks = kv_blocks(result)
    if not len(result.steps) or not blocks:
        say_empty(ax, "no step records")
        return
    at = result.steps["t"] - result.started_t
    share = 100 * result.steps["used_blocks"] / blocks
    ax.fill_between(
        at, share, step="post", color="#56B4E9", alpha=0.35, linewidth=0, rasterized=len(at) > 2000
    )
    ax.step(at, share, where="post", color="#0072B2", linewidth=1.0)
    marks = np.array([e["t"] - result.started_t for e in result.events if e["type"] == "preempt"])
    ax.plot(marks, np.full(len(marks), 104), "|", color=PREEMPTION, markersize=8, markeredgewidth=0.9)
    ax.set_ylim(0, 112)
    ax.set_yticks([0, 25, 50, 75, 100])
    ax.axhline(100, color=MUTED, linewidth=0.6)
    if label_axis:
        ax.set_ylabel("KV in use, %")
    text = f"{len(marks)} preemptions" if len(marks) != 1 else "1 preemption"
    ax.text(
        1.0, 1.02, f"| {text}", color=PREEMPTION, fontsize=9, ha="right", va="bottom", transform=ax.transAxes
    )
