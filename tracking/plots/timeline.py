"""What each request of one run was doing, over time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.patches import Patch
from matplotlib.path import Path

from tracking.plots.style import say_empty
from tracking.result import RunResult, token_times

PHASES = {
    "queued": "#d4d4d4",
    "prefill": "#0072B2",
    "decode": "#9fd4f2",
    "preempted": "#D55E00",
    "recompute": "#E69F00",
}


def segments(result: RunResult) -> pd.DataFrame:
    """Phases of every request: `row` (its place in order of arrival), `start`, `end` (seconds of the run),
    `phase`. Recompute lasts from a resume to the next output token."""
    end_of_run = result.finished_t - result.started_t
    records = pd.DataFrame(
        [(e["id"], e["first_scheduled_t"], e["finish_t"]) for e in result.events if e["type"] == "request"],
        columns=["request_id", "first_scheduled_t", "left_t"],
    ).drop_duplicates("request_id", keep="last")
    table = result.requests.sort_values("scheduled_t").merge(records, how="left", on="request_id")
    scheduled, first, finish, started, left = (
        table[name].to_numpy(float)
        for name in ("scheduled_t", "first_token_t", "finish_t", "first_scheduled_t", "left_t")
    )
    end = _first_known(finish, left - result.started_t, end_of_run)
    first = _first_known(first, end)
    started = _first_known(started - result.started_t, first)
    rows = np.arange(len(table))
    parts = [
        pd.DataFrame({"row": rows, "start": start, "end": stop, "phase": phase})
        for start, stop, phase in (
            (scheduled, started, "queued"), (started, first, "prefill"), (first, end, "decode"),
        )
    ]  # fmt: skip
    parts.append(pd.DataFrame(_pauses(result, table, end), columns=list(parts[0])))
    found = pd.concat(parts, ignore_index=True).astype({"row": int, "start": float, "end": float})
    return found[found["end"] > found["start"]]


def _pauses(
    result: RunResult, table: pd.DataFrame, end: np.ndarray
) -> Iterator[tuple[int, float, float, str]]:
    """The times of each victim without its memory, and those of computing anew."""
    delays = {e["id"]: e.get("resume_delays", ()) for e in result.events if e["type"] == "request"}
    preempted_at = defaultdict(list)
    for event in result.events:
        if event["type"] == "preempt":
            preempted_at[event["victim"]].append(event["t"] - result.started_t)
    victims = table[table["request_id"].isin(preempted_at)]
    for row, request in zip(victims.index, victims.itertuples(), strict=True):
        pauses = preempted_at[request.request_id]
        tokens = token_times(request)
        known = [*delays.get(request.request_id, ()), *[None] * len(pauses)]
        for pause, delay in zip(pauses, known, strict=False):
            resume = end[row] if delay is None else pause + delay
            yield row, pause, resume, "preempted"
            following = tokens[tokens > resume]
            if len(following) and delay is not None:
                yield row, resume, following[0], "recompute"


def draw_timeline(ax: Axes, result: RunResult) -> None:
    """A row a request in order of arrival, first at the top."""
    parts = segments(result) if len(result.requests) else pd.DataFrame()
    if not len(parts):
        say_empty(ax, "no request was sent")
        return
    half = 0.42 if len(result.requests) <= 120 else 0.5  # gaps between thin rows would flicker
    dense = len(parts) > 400
    for phase, colour in PHASES.items():
        boxes = _boxes(parts[parts["phase"] == phase], half)
        look = {"facecolor": colour, "edgecolor": "none", "antialiased": not dense, "rasterized": dense}
        ax.add_collection(PathCollection([Path.make_compound_path_from_polys(boxes)], **look), autolim=False)
    ax.set_ylim(parts["row"].max() + 1, -1)
    ax.set_xlim(0, parts["end"].max())
    ax.set_ylabel("request, by arrival")
    ax.grid(False)
    handles = [Patch(color=colour, label=phase) for phase, colour in PHASES.items()]
    ax.legend(
        handles=handles, loc="lower left", bbox_to_anchor=(0, 1.0), ncols=len(handles), borderaxespad=0.2
    )


def _boxes(parts: pd.DataFrame, half: float) -> np.ndarray:
    """The corners of each part's box, shape (parts, 4, 2): one path of all is drawn far faster than each."""
    low, high = parts["row"] - half, parts["row"] + half
    corners = [(parts["start"], low), (parts["start"], high), (parts["end"], high), (parts["end"], low)]
    return np.array([[x, y] for x, y in corners], float).transpose(2, 0, 1)


def _first_known(*times: np.ndarray | float) -> np.ndarray:
    """Element by element, the first that is not NaN."""
    known = times[-1]
    for time in reversed(times[:-1]):
        known = np.where(np.isnan(time), known, time)
    return known
