"""The records of prefill and decode engines as those of one run, in which each request has one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ray_jobs.engines.shared.replicas import merge_events

SUMMED = ("executed", "recomputed", "preemptions", "preempted_s", "queued_s", "resume_delays")
"""What both engines did or waited for one request."""
FIRST = ("arrival_t", "first_scheduled_t", "cached", "cached_resume")
"""What only the prefill engine knows: later hits save a transfer, and nothing that is computed."""


def merge_sides(recorded: Sequence[list[dict[str, Any]]], prefill: int) -> list[dict[str, Any]]:
    """As `merge_events`, of `prefill` engines and the decode engines behind them.

    A request's record is its decode engine's, with its prefill engine's as `prefill`; one that ended before it was handed
    over has the latter's only. Its counts are of both: executed = prompt + output + recomputed - cached, since the
    prompt's last token is computed twice. `pulled` tokens came over the link, `found` ones were in the decode engine's
    own prefix cache.
    """
    start, *between, end = merge_events(recorded)
    of_decode = {e["id"] for e in between if e["type"] == "request" and e["replica"] >= prefill}
    before: dict[str, dict[str, Any]] = {}
    merged = []
    for event in between:
        if event["type"] == "request" and event["id"] in of_decode:
            if event["replica"] < prefill:
                before[event["id"]] = event
                continue
            event = _joined(before[event["id"]], event)
        merged.append(event)
    twice = {"arrivals": end["arrivals"] - len(before), "requests": end["requests"] - len(before)}
    # Both have a connector, but what it brings is no host memory's.
    return [start | {"prefill_replicas": prefill, "host_memory": False}, *merged, end | twice]


def _joined(prefill: dict[str, Any], decode: dict[str, Any]) -> dict[str, Any]:
    moved = {
        "pulled": decode["restored"] + decode["restored_resume"],
        "found": decode["cached"],
        "restored": 0,
        "restored_resume": 0,
        "prefill": {key: value for key, value in prefill.items() if key not in ("id", "type")},
    }
    sums = {key: prefill[key] + decode[key] for key in SUMMED}
    return decode | {key: prefill[key] for key in FIRST} | sums | moved
