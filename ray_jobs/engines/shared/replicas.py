"""The records of several engines as those of one run; each event and step says which `replica` it is of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from numbers import Number
from typing import Any

import pandas as pd


def merge_events(recorded: Sequence[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """The events of all replicas as those of one run."""
    start = recorded[0][0] | {"replicas": len(recorded)}
    totals: Counter[str] = Counter()
    for events in recorded:
        totals.update({key: v for key, v in events[-1].items() if isinstance(v, Number) and key != "t"})
    end = recorded[0][-1] | dict(totals)
    end |= {"degraded": any(events[-1]["degraded"] for events in recorded)}
    end["t"] = max(events[-1]["t"] for events in recorded)
    between = [
        event | {"replica": number} for number, events in enumerate(recorded) for event in events[1:-1]
    ]
    between.sort(key=lambda event: event["t"] if "t" in event else event["finish_t"])
    return [start, *between, end]


def merge_steps(recorded: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """The steps of all replicas in the order of time."""
    frames = [steps.assign(replica=number) for number, steps in enumerate(recorded)]
    return pd.concat(frames, ignore_index=True).sort_values("t", kind="stable", ignore_index=True)
