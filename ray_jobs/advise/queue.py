"""What a run shows of its queue: who waited, for what, and whether the queue was still growing at the end."""

from __future__ import annotations

import numpy as np

from tracking.result import RunResult


def queue_facts(result: RunResult) -> dict[str, float]:
    """`waited_share` and `blocked_share` of the steps' time somebody waited, and the first in line did not fit;
    `backlog`, the share of all requests that waited when the last one arrived; `arrive_req_s`, and `served_req_s` in
    the second half of the arrivals: the engine's capacity where there is a backlog."""
    steps, requests = result.steps, result.requests
    arrivals = np.sort(requests["scheduled_t"].dropna().to_numpy(float))
    if not len(steps) or len(arrivals) < 2 or arrivals[-1] <= arrivals[0]:
        return {}
    begin, end = arrivals[0], arrivals[-1]
    duration, waiting = steps["dur"].to_numpy(float), steps["waiting"].to_numpy(float)
    last = max(0, int(np.searchsorted(steps["t"].to_numpy(float), end, side="right")) - 1)
    finished = requests["finish_t"].dropna().to_numpy(float)
    half = (begin + end) / 2
    return {
        "waited_share": float(duration[waiting > 0].sum() / duration.sum()),
        "blocked_share": float(duration[steps["hol_blocked"].to_numpy(bool)].sum() / duration.sum()),
        "backlog": float(waiting[last] / len(arrivals)),
        "arrive_req_s": float((len(arrivals) - 1) / (end - begin)),
        "served_req_s": float(((finished > half) & (finished <= end)).sum() / (end - half)),
    }
