"""The records of several engines as those of one run; each event and step says which `replica` it is of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from numbers import Number
from typing import Any

import pandas as pd

from bidkv.adapters.shared.events import read_events
from bidkv.adapters.shared.settings import AdapterSettings
from ray_jobs.engines.shared.live import Sent
from ray_jobs.engines.shared.records import check_records
from ray_jobs.engines.shared.requests_table import requests_table
from tracking.result import RunResult


def read_results(own: Sequence[AdapterSettings], sent: Sent, served_by: Mapping[str, int]) -> RunResult:
    """What a run on real engines left: `own` are each one's settings, `served_by` whose each request was. Raises if the
    records of one do not add up."""
    recorded = [read_events(each.events_path) for each in own]
    steps = [read_events(each.steps_path) for each in own]
    for number, each in enumerate(own):
        mine = [log for log in sent.logs if served_by.get(log.request.request_id) == number]
        check_records(each, recorded[number], mine, len(steps[number]))
    events = merge_events(recorded)
    return RunResult(
        status=sent.status,
        requests=requests_table(sent.logs, events),
        events=events,
        steps=merge_steps([pd.DataFrame(each) for each in steps]),
        started_t=sent.started_t,
        finished_t=sent.finished_t,
        client_cpu_s=sent.cpu_s,
    )


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
