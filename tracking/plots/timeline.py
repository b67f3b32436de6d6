"""What each request of one run was doing, over time."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.patches import Patch

from ray_jobs.result import RunResult
from tracking.plots.style import say_empty

PHASES = {
    "queued": "#d4d4d4",
    "prefill": "#0072B2",
    "decode": "#9fd4f2",
    "preempted": "#D55E00",
    "recompute": "#E69F00",
}


@dataclass(frozen=True)
class Segment:
    """One request in one phase; `row` is its place in order of arrival, times in seconds of the run."""

    row: int
    start: float
    end: float
    phase: str


def segments(result: RunResult) -> list[Segment]:
    """Phases of every request. Recompute lasts from a resume to the next output token."""
    end_of_run = result.finished_t - result.started_t
    records = {e["id"]: e for e in result.events if e["type"] == "request"}
    preempted_at = defaultdict(list)
    for event in result.events:
        if event["type"] == "preempt":
            preempted_at[event["victim"]].append(event["t"] - result.started_t)
    found: list[Segment] = []
    table = result.requests.sort_values("scheduled_t")
    for row, request in enumerate(table.itertuples()):
        record = records.get(request.request_id, {})
        end = _first_number(request.finish_t, record.get("finish_t"), end_of_run, offset=result.started_t)
        first_token = _first_number(request.first_token_t, None, end)
        started = record.get("first_scheduled_t")
        started = started - result.started_t if started is not None else first_token
        base = [
            (request.scheduled_t, started, "queued"),
            (started, first_token, "prefill"),
            (first_token, end, "decode"),
        ]
        pauses = preempted_at[request.request_id]
        tokens = token_times(request)
        over = []
        for pause, delay in zip(
            pauses, [*record.get("resume_delays", ()), *[None] * len(pauses)], strict=False
        ):
            resume = end if delay is None else pause + delay
            following = tokens[tokens > resume]
            over.append((pause, resume, "preempted"))
            if len(following) and delay is not None:
                over.append((resume, following[0], "recompute"))
        found += [Segment(row, *part) for part in [*base, *over] if part[1] > part[0]]
    return found


def token_times(request: tuple) -> np.ndarray:
    """When the output chunks of a row of `requests` arrived, in seconds of the run."""
    if request.itl_s is None or not np.ndim(request.itl_s) or pd.isna(request.first_token_t):
        return np.array([])
    return request.first_token_t + np.concatenate([[0.0], np.cumsum(np.asarray(request.itl_s, float))])


def draw_timeline(ax: Axes, result: RunResult) -> None:
    """A row a request in order of arrival, first at the top."""
    parts = segments(result)
    if not parts:
        say_empty(ax, "no request was sent")
        return
    half = 0.42 if len(result.requests) <= 120 else 0.5  # gaps between thin rows would flicker
    dense = len(parts) > 400
    for phase, colour in PHASES.items():
        boxes = [_box(part, half) for part in parts if part.phase == phase]
        look = {"facecolors": colour, "edgecolors": "none", "antialiased": not dense, "rasterized": dense}
        ax.add_collection(PolyCollection(boxes, **look))
    ax.set_ylim(max(s.row for s in parts) + 1, -1)
    ax.set_xlim(0, max(s.end for s in parts))
    ax.set_ylabel("request, by arrival")
    ax.grid(False)
    handles = [Patch(color=colour, label=phase) for phase, colour in PHASES.items()]
    ax.legend(
        handles=handles, loc="lower left", bbox_to_anchor=(0, 1.0), ncols=len(handles), borderaxespad=0.2
    )


def _box(part: Segment, half: float) -> list[tuple[float, float]]:
    low, high = part.row - half, part.row + half
    return [(part.start, low), (part.start, high), (part.end, high), (part.end, low)]


def _first_number(value: float, wall: float | None, otherwise: float, offset: float = 0.0) -> float:
    if not pd.isna(value):
        return float(value)
    return wall - offset if wall is not None else otherwise
