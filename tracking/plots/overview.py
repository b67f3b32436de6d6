"""One run at a glance."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tracking.plots.kv import draw_kv
from tracking.plots.style import envelope, look, new_figure, say_empty
from tracking.plots.timeline import draw_timeline
from tracking.result import RunResult


def run_figure(result: RunResult) -> Figure:
    """Per-request timeline, KV usage with preemptions, and queue lengths of one run, on one time axis."""
    with look():
        figure = new_figure(height=7.2)
        figure.set_layout_engine("none")  # the engine draws all of it twice more to find these places
        places = {"left": 0.085, "right": 0.985, "bottom": 0.068, "top": 0.915, "hspace": 0.22}
        timeline, kv, queue = figure.subplots(
            3, 1, sharex=True, height_ratios=[3.2, 1.2, 1.0], gridspec_kw=places
        )
        figure.suptitle(_title(result), x=0.01, ha="left", fontsize=11, fontweight="bold")
        draw_timeline(timeline, result)
        draw_kv(kv, result)
        _draw_queue(queue, result)
        queue.set_xlabel("seconds since the run's start")
        return figure


def _draw_queue(ax: Axes, result: RunResult) -> None:
    steps = result.steps
    if not len(steps):
        say_empty(ax, "no step records")
        return
    at = (steps["t"] - result.started_t).to_numpy()
    for name, colour in (("running", "#0072B2"), ("waiting", "#6b6b6b")):
        ax.step(
            *envelope(at, steps[name].to_numpy(float)), where="post", color=colour, linewidth=1.2, label=name
        )
    ax.set_ylim(bottom=0)
    ax.set_ylabel("requests")
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=2, borderaxespad=0.2)


def _title(result: RunResult) -> str:
    if not result.recorded:
        return f"without the adapter: {len(result.requests)} requests, {result.status}"
    start = result.run_start
    pair = f"{start.get('admission')}+{start.get('victim')}"
    name = start.get("strategy", "?")
    seed = f", seed {start['seed']}" if "seed" in start else ""
    return f"{name} ({pair}){seed}: {len(result.requests)} requests, {result.status}"
